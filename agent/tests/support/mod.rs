//! What the tests of actions share: an agent's surroundings, without an agent.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::actions::{
    ActionError, AttemptKey, Context, CoordinatorProbe, Environment, EvidenceSink, IsolationMode, Receipt,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Keeps evidence in memory.
#[derive(Default)]
pub struct Shelf {
    /// Path and content, in order.
    pub taken: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl EvidenceSink for Shelf {
    fn put(
        &self,
        _key: AttemptKey,
        file: File,
        path: Vec<u8>,
        size_bytes_max: u64,
        _cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<Receipt, ActionError>> {
        async move {
            let mut content = Vec::new();
            file.take(size_bytes_max)
                .read_to_end(&mut content)
                .map_err(|error| ActionError::io("reading", &error))?;
            let sha256 = hex::encode(Sha256::digest(&content));
            let size_bytes = content.len() as u64;
            self.taken.lock().expect("not poisoned").push((path, content));
            Ok(Receipt {
                sha256,
                size_bytes,
                copies: 2,
                changed_during_read: false,
            })
        }
        .boxed()
    }
}

/// No coordinator is ever asked.
pub struct NoProbe;

impl CoordinatorProbe for NoProbe {
    fn probe(&self, _within: Duration) -> BoxFuture<'_, Result<(), String>> {
        async { Err("this test has no coordinator".to_owned()) }.boxed()
    }
}

/// Surroundings whose policy allows these roots.
pub fn environment(roots: &[&Path], shelf: &Arc<Shelf>) -> Environment {
    Environment {
        state_dir: PathBuf::from("/nonexistent"),
        coordinators: Vec::new(),
        evidence: shelf.clone(),
        probe: Arc::new(NoProbe),
        isolation: IsolationMode::Enforce,
        roots: roots.iter().map(|root| root.to_path_buf()).collect(),
    }
}

/// A first attempt with these parameters.
pub fn context(environment: Environment, parameters: Value) -> Context {
    Context {
        key: AttemptKey {
            run_id: "run".to_owned(),
            step: "step".to_owned(),
            item: 0,
            attempt: 1,
            token: 1,
        },
        parameters,
        cancel: CancellationToken::new(),
        timeout: Duration::from_secs(120),
        environment: Arc::new(environment),
    }
}

/// Runs an action and holds both its ends against the catalogue.
pub async fn run(action: &str, context: Context) -> Result<Value, ActionError> {
    let described = catalogue::find(action).expect("in the catalogue");
    assert_eq!(
        described.check_parameters(&context.parameters),
        Vec::<String>::new()
    );
    let output = agent::actions::run(action, context).await?;
    assert_eq!(
        described.check_output(&output),
        Vec::<String>::new(),
        "{output:#}"
    );
    assert!(
        output.to_string().len() <= 64 * 1024,
        "{} bytes",
        output.to_string().len()
    );
    Ok(output)
}

/// Runs an action beneath these roots, which must succeed.
pub async fn run_in(action: &str, roots: &[&Path], parameters: Value) -> Value {
    let environment = environment(roots, &Arc::new(Shelf::default()));
    run(action, context(environment, parameters))
        .await
        .expect("succeeds")
}
