//! The APIs: one service per party, one place that decides who may call (`auth`), one that makes statuses
//! of errors (`error`), one that holds the limits (`limits`). Wire types stay within `api` and `hub`.

pub mod agents;
pub mod auth;
pub mod bucket;
pub mod convert;
pub mod enroll;
pub mod error;
pub mod limits;
pub mod operator;
pub mod peers;
mod plan;
