//! What the tests share. `sim` is a whole cluster with its disks, network and agents in one deterministic world.

pub mod sim;
