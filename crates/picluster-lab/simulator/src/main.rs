//! The simulator as a program: behaves as what it is called (`k3s`, `kubectl`, `crictl`, `ctr`).

fn main() -> std::process::ExitCode {
    picluster_k3s_simulator::run(std::env::args_os())
}
