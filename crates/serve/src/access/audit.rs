//! The audit log: every administrative action, who asked for it, from where, when, and what came of it.
//!
//! One line of JSON before the action and one after it, with the same number. The line before is on the disk before the
//! action begins: an action that cannot be written down does not happen. Without a file the lines go to the log, with
//! the target `audit`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::Admitted;
use super::files::FileFault;
use super::principal::{Known, Principal};
use crate::error::{Result, ServeError};
use crate::traffic::Clock;

/// Where the lines go.
#[derive(Debug, Default)]
pub struct Audit {
    file: Option<(PathBuf, Mutex<File>)>,
    clock: Option<Clock>,
    number: AtomicU64,
}

/// An action.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// What is done, such as `load`.
    pub action: String,
    /// To which model, if to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// To which version of it, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// By way of what: `http`, `grpc` or `operator`.
    pub by: &'static str,
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    at: Option<String>,
    /// The same for the two lines of an action, within one run of the server.
    number: u64,
    /// `asked`, `done` or `refused`.
    event: &'static str,
    #[serde(flatten)]
    action: &'a Action,
    principal: &'a str,
    known_by: Known,
    address: Option<IpAddr>,
    /// What was sent, as far as it is small and no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
}

/// An action that has been written down and is under way.
#[derive(Debug)]
pub struct Asked {
    audit: Arc<Audit>,
    number: u64,
    action: Action,
    principal: Arc<Principal>,
    address: Option<IpAddr>,
}

impl Audit {
    /// Writes to a file, at its end, or without one to the log; with the time of day where there is a clock.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: Option<&Path>, clock: Option<Clock>) -> std::result::Result<Self, FileFault> {
        let open = |path: &Path| Ok((path.to_owned(), Mutex::new(append(path)?)));
        Ok(Self { file: path.map(open).transpose()?, clock, number: AtomicU64::new(0) })
    }

    /// Opens the file again, as after it was moved away.
    ///
    /// # Errors
    /// When it cannot be opened; the one before stays.
    pub fn reopen(&self) -> std::result::Result<(), FileFault> {
        if let Some((path, file)) = &self.file {
            let opened = append(path)?;
            *file.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        }
        Ok(())
    }

    /// Writes down that somebody asked for an action. It waits for the disk.
    ///
    /// # Errors
    /// 503 when it cannot be written; the action must not happen then.
    pub fn asked(self: &Arc<Self>, admitted: &Admitted, action: Action) -> Result<Asked> {
        let asked = Asked {
            audit: Arc::clone(self),
            number: self.number.fetch_add(1, Ordering::Relaxed),
            action,
            principal: Arc::clone(&admitted.principal),
            address: admitted.address,
        };
        asked.write("asked", None, None).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written, so an administrative action is refused");
            ServeError::unavailable("the audit log cannot be written, so nothing was done")
        })?;
        Ok(asked)
    }

    fn write(&self, line: &Line<'_>) -> std::io::Result<()> {
        let mut text = serde_json::to_string(line).map_err(std::io::Error::other)?;
        let Some((_, file)) = &self.file else {
            tracing::info!(target: "audit", "{text}");
            return Ok(());
        };
        text.push('\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // In one call, so that lines of several writers do not mix.
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

impl Asked {
    /// Writes down what came of it. It waits for the disk.
    pub fn done(self, detail: Option<Value>, result: std::result::Result<(), String>) {
        let (event, result) = match result {
            Ok(()) => ("done", "ok".to_owned()),
            Err(why) => ("refused", why),
        };
        if let Err(error) = self.write(event, detail, Some(result)) {
            tracing::error!(%error, action = self.action.action, "an action was taken, and its result is not in the audit log");
        }
    }

    fn write(
        &self,
        event: &'static str,
        detail: Option<Value>,
        result: Option<String>,
    ) -> std::io::Result<()> {
        self.audit.write(&Line {
            at: self.audit.clock.and_then(|clock| clock()),
            number: self.number,
            event,
            action: &self.action,
            principal: &self.principal.name,
            known_by: self.principal.known,
            address: self.address,
            detail,
            result,
        })
    }
}

fn append(path: &Path) -> std::result::Result<File, FileFault> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| FileFault::new(path, format!("it cannot be written to: {error}")))
}

/// Has something done between the two lines. Writing waits on a thread where nobody else waits for it.
///
/// # Errors
/// 503 when the first line cannot be written; otherwise those of what is done.
pub async fn audited<T>(
    audit: &Arc<Audit>,
    admitted: &Admitted,
    action: Action,
    detail: Option<Value>,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    let asked = begin(audit, admitted, action).await?;
    let result = run.await;
    let told = result.as_ref().map(drop).map_err(ToString::to_string);
    end(asked, detail, told).await;
    result
}

/// The first line, on a thread that may wait.
///
/// # Errors
/// 503 when it cannot be written.
pub async fn begin(audit: &Arc<Audit>, admitted: &Admitted, action: Action) -> Result<Asked> {
    let (audit, admitted) = (Arc::clone(audit), admitted.clone());
    let asked = tokio::task::spawn_blocking(move || audit.asked(&admitted, action)).await;
    asked.map_err(ServeError::internal)?
}

/// The second line, on a thread that may wait.
pub async fn end(asked: Asked, detail: Option<Value>, result: std::result::Result<(), String>) {
    if let Err(error) = tokio::task::spawn_blocking(move || asked.done(detail, result)).await {
        tracing::error!(%error, "the audit log could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    #[test]
    fn an_action_is_two_lines_and_none_is_without_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"before\":1}\n").unwrap();
        let audit = Arc::new(Audit::open(Some(&path), Some(|| Some("now".to_owned()))).unwrap());
        let admitted = Access::open().unchecked().unwrap();
        let action = |model: &str| Action {
            action: "load".to_owned(),
            model: Some(model.to_owned()),
            version: None,
            by: "http",
        };
        let first = audit.asked(&admitted, action("a\n\"b")).unwrap();
        let second = audit.asked(&admitted, action("c")).unwrap();
        second.done(None, Err("there is none".to_owned()));
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        audit.reopen().unwrap();
        first.done(Some(serde_json::json!({ "x": 1 })), Ok(()));
        let lines = |name: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let old = lines("old");
        assert_eq!((old.len(), &old[0]["before"]), (4, &Value::from(1)), "what was there stays");
        assert_eq!((&old[1]["event"], &old[1]["model"]), (&Value::from("asked"), &Value::from("a\n\"b")));
        assert_eq!(
            (&old[3]["event"], &old[3]["result"]),
            (&Value::from("refused"), &Value::from("there is none"))
        );
        let new = lines("audit.jsonl");
        assert_eq!(
            (&new[0]["event"], &new[0]["number"], &new[0]["at"]),
            (&Value::from("done"), &old[1]["number"], &Value::from("now"))
        );
        assert_eq!(new[0]["principal"], "anonymous");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_the_action() {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let audit = Arc::new(Audit::open(Some(Path::new("/dev/full")), None).unwrap());
        let admitted = Access::open().unchecked().unwrap();
        let action = Action { action: "load".to_owned(), model: None, version: None, by: "grpc" };
        let error = audit.asked(&admitted, action).unwrap_err();
        assert!(error.to_string().contains("nothing was done"), "{error}");
    }
}
