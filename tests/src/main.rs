//! The very program that is shipped, built here so that the tests know where it is.

fn main() -> std::process::ExitCode {
    picluster::run::run()
}
