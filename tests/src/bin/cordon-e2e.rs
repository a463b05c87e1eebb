//! The `cordon` executable, built with this package so that its tests can start it.

fn main() -> std::process::ExitCode {
    cordon::main()
}
