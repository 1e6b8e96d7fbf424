//! Reboots a node, proves it, and looks whether it helped.

use picluster_plan::Step;
use picluster_resource::{Diff, Operation, Resource};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::NodeError;
use crate::guarded::NOT_IN_TIME;
use crate::host::ConnectError;
use crate::report::{Failure, Outcome};
use crate::scheduler::After;
use crate::worker::{StepEnd, Told, Worker};

/// PID 1 does it once this script is gone; it survives the end of our session.
const REBOOT: &str = "sync\nsystemctl --no-block reboot || shutdown -r now\n";

impl Worker {
    pub(crate) async fn reboot_step(
        &mut self,
        step: &Step,
        verify: &[Resource],
    ) -> Result<StepEnd, NodeError> {
        self.peek = None;
        let pending = match self.pending(verify).await? {
            Ok(pending) => pending,
            Err(failure) => return Ok(StepEnd::failed(*failure)),
        };
        if pending.is_empty() {
            return Ok(StepEnd::new(Outcome::Unchanged));
        }
        if let Some(end) = self.rolled_back_meanwhile(NOT_IN_TIME).await? {
            return Ok(end);
        }
        self.arm_for_boot().await?;
        let old = self.link.boot_id();
        // Nothing was written by this run: then there is nothing to try.
        let trying = self.guard.is_some() && step.guard.is_some_and(|g| g.tried);
        let refused = if trying {
            self.reboot_to_try().await?
        } else {
            self.reboot().await?
        };
        if let Some(end) = refused {
            return Ok(end);
        }
        self.tell(Told::Rebooting);
        let clock = std::sync::Arc::clone(&self.run.shared.settings.clock);
        let away = clock.elapsed();
        self.link.drop_connection().await;
        if let Err(error) = self.wait_for_return(&old).await {
            let cure = if trying {
                "cut its power for a moment: it then starts with the boot files from before; apply again when it answers"
            } else {
                "look at its console or its power; apply again when it answers"
            };
            let failure = Failure {
                cure: Some(cure.into()),
                ..Failure::new(format!(
                    "it was told to reboot and did not come back: {error}"
                ))
            };
            return Ok(StepEnd {
                error: Some(error),
                ..StepEnd::failed(failure).after(After::Down)
            });
        }
        self.tell(Told::Back {
            seconds: (clock.elapsed().saturating_sub(away)).as_secs_f64(),
        });
        // The lock lived in /run.
        if let Err(error) = self.take_lock(&[]).await {
            return Ok(StepEnd {
                after: After::Down,
                ..StepEnd::broken(&error)
            }
            .with_error(error));
        }
        if let Some(end) = self.rolled_back_meanwhile(NOT_IN_TIME).await? {
            return Ok(end);
        }
        if trying && let Some(end) = self.settle_try().await? {
            return Ok(end);
        }
        let end = match self.pending(verify).await? {
            Err(failure) => StepEnd::failed(*failure),
            Ok(pending) if pending.is_empty() => StepEnd::new(Outcome::Changed),
            Ok(pending) => StepEnd::failed(Failure {
                cure: Some(
                    "the boot loader may read another file, or the firmware may override it".into(),
                ),
                ..Failure::new(format!(
                    "it has rebooted, but still: {}",
                    pending.join("; ")
                ))
            }),
        };
        Ok(StepEnd {
            change: Some(step.change.clone()),
            ..end
        })
    }

    /// Tells the node to. `Ok(Some)`: it refused.
    async fn reboot(&mut self) -> Result<Option<StepEnd>, NodeError> {
        let sent = self
            .operate("", Operation::script(REBOOT), "", "", None)
            .await;
        match sent {
            Ok((frame, _)) if frame.status != 0 => Ok(Some(StepEnd::failed(Failure {
                command: Some(REBOOT.into()),
                status: Some(frame.status),
                output: frame.text(),
                ..Failure::new("the node refused to reboot")
            }))),
            // The session going down with the node is an answer too.
            Ok(_) | Err(NodeError::Lost { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// What is not in effect, in words; empty: nothing waits for a reboot.
    async fn pending(
        &mut self,
        verify: &[Resource],
    ) -> Result<Result<Vec<String>, Box<Failure>>, NodeError> {
        let seen = match self.observe(verify).await? {
            Ok(seen) => seen,
            Err(diagnosis) => {
                return Ok(Err(Box::new(Failure {
                    what: diagnosis.what,
                    cure: diagnosis.cure,
                    ..Failure::default()
                })));
            }
        };
        let mut pending = Vec::new();
        for (resource, seen) in verify.iter().zip(&seen) {
            let name = format!("{}[{}]", resource.kind(), resource.key());
            if let Some(why) = resource.reboot_pending(seen, self.ctx()) {
                pending.push(format!("{name}: {why}"));
            } else if let Some(token) = seen.not_yet() {
                pending.push(format!("{name}: {token} is missing"));
            } else if let Diff::Change(change) = resource.diff(seen, self.ctx()) {
                pending.push(format!("{name}: {}", crate::decide::brief(&change)));
            }
        }
        Ok(Ok(pending))
    }

    /// Dials until another boot answers and has finished starting.
    async fn wait_for_return(&mut self, old_boot_id: &str) -> Result<(), NodeError> {
        let settings = &self.run.shared.settings;
        let deadline = Instant::now() + settings.reboot_timeout;
        let (mut pause, most) = (settings.reboot_poll, settings.reboot_poll_max);
        let seconds = settings.reboot_timeout.as_secs();
        let mut last: Option<NodeError> = None;
        loop {
            if timeout_at(deadline, sleep(pause)).await.is_err() {
                return Err(last.unwrap_or_else(|| self.not_back(seconds)));
            }
            pause = (pause * 2).min(most);
            let facts = match timeout_at(deadline, self.link.fresh_facts(true)).await {
                Ok(facts) => facts,
                Err(_) => return Err(last.unwrap_or_else(|| self.not_back(seconds))),
            };
            match facts {
                Err(NodeError::Connect(error @ ConnectError::HostKeyChanged { .. })) => {
                    return Err(error.into());
                }
                // Unreachable, or refused: logins are refused while a system starts.
                Err(error) => {
                    self.link.drop_connection().await;
                    last = Some(error);
                }
                Ok(facts) if facts.now.boot_id == old_boot_id => {
                    // Still on its way down.
                    self.link.drop_connection().await;
                    last = Some(self.not_down(seconds));
                }
                Ok(facts)
                    if matches!(facts.now.system_state.as_str(), "starting" | "initializing") =>
                {
                    last = Some(self.not_back(seconds));
                }
                Ok(_) => return Ok(()),
            }
        }
    }

    fn not_back(&self, seconds: u64) -> NodeError {
        NodeError::Timeout {
            node: self.node.clone(),
            doing: "it was starting up".into(),
            seconds,
        }
    }

    fn not_down(&self, seconds: u64) -> NodeError {
        NodeError::Timeout {
            node: self.node.clone(),
            doing: "it was going down; the boot it was told to leave still answers".into(),
            seconds,
        }
    }
}

impl StepEnd {
    fn with_error(mut self, error: NodeError) -> Self {
        self.error = Some(error);
        self
    }
}
