//! `host.release`: lets the host back onto the network. See [`crate::isolation`].

use serde_json::{Value, json};

use super::{ActionError, Context};
use crate::isolation::release;

/// Runs the action. Its only parameter, the reason, is for the record.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let released = release(&context.environment).await?;
    Ok(json!({
        "released": released.released,
        "was_isolated": released.was_isolated,
        "foreign_edits": released.foreign_edits,
    }))
}
