//! The `picluster` program; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    picluster::run::run()
}
