//! The scheduler over random graphs, outcomes, limits and interrupts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use picluster_model::{NodeName, RoleName};
use picluster_plan::StepAddr;
use proptest::prelude::*;

use crate::guard::{Guard, NoGuard, Quorum, Standing};
use crate::report::SkipReason;
use crate::run::Cancel;
use crate::scheduler::{AT_ONCE, After, Command, Input, Limits, Scheduler, StepSpec};

fn addr(node: usize, step: usize) -> StepAddr {
    StepAddr {
        node: NodeName::new(format!("n{node}")).unwrap(),
        role: RoleName::new("r").unwrap(),
        kind: "file".into(),
        key: step.to_string(),
    }
}

#[derive(Debug, Clone)]
struct Case {
    /// Node, needs (indices, mostly earlier ones), reboot, upload.
    steps: Vec<(usize, Vec<usize>, bool, bool)>,
    /// Which they merely come after (indices of earlier ones).
    after: Vec<Vec<usize>>,
    /// Which of them are small, and what may move them (indices of earlier ones).
    small: Vec<bool>,
    moved_by: Vec<Vec<usize>>,
    limits: (usize, usize),
    /// Consumed one a decision: which pending answer comes next, and how it turns out.
    dice: Vec<u8>,
    cancel_at: Option<(usize, bool)>,
    /// Which nodes are members of the control plane, and whether each was seen; no guard if none.
    members: Vec<(usize, bool)>,
    /// Which of them is to leave its cluster, and the step that makes the cluster let it go.
    leaves: Option<(usize, usize)>,
    cyclic: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let step = (
        0..5_usize,
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.7),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..2),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..2),
    );
    (
        proptest::collection::vec(step, 0..24),
        (0..4_usize, 0..3_usize),
        proptest::collection::vec(any::<u8>(), 64),
        proptest::option::weighted(0.4, (0..30_usize, any::<bool>())),
        proptest::collection::vec((0..6_usize, proptest::bool::weighted(0.85)), 0..5),
        proptest::option::weighted(
            0.4,
            (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(raw, limits, dice, cancel_at, members, leaves, cyclic)| {
            let all = raw.len();
            let small = raw
                .iter()
                .map(|(_, _, reboot, upload, small, ..)| *small && !reboot && !upload)
                .collect();
            let moved_by = raw
                .iter()
                .enumerate()
                .map(|(i, step)| {
                    step.5
                        .iter()
                        .filter(|_| i > 0)
                        .map(|m| m.index(i))
                        .collect()
                })
                .collect();
            let after = raw
                .iter()
                .enumerate()
                .map(|(i, step)| {
                    let before = step.6.iter().filter(|_| i > 0);
                    before.map(|m| m.index(i)).collect()
                })
                .collect();
            let steps = raw
                .into_iter()
                .enumerate()
                .map(|(i, (node, needs, reboot, upload, ..))| {
                    let range = if cyclic { all } else { i };
                    let needs = needs
                        .into_iter()
                        .filter(|_| range > 0)
                        .map(|n| n.index(range))
                        .collect();
                    (node, needs, reboot, upload)
                })
                .collect();
            let leaves = leaves.filter(|_| !members.is_empty() && all > 0);
            let leaves = leaves.map(|(m, s)| (members[m.index(members.len())].0, s.index(all)));
            Case {
                leaves,
                steps,
                after,
                small,
                moved_by,
                limits,
                dice,
                cancel_at,
                members,
                cyclic,
            }
        })
}

fn specs(case: &Case) -> Vec<StepSpec> {
    case.steps
        .iter()
        .enumerate()
        .map(|(i, (node, needs, reboot, upload))| StepSpec {
            addr: addr(*node, i),
            needs: needs.iter().map(|n| addr(case.steps[*n].0, *n)).collect(),
            after: match case.after.get(i) {
                Some(all) => all.iter().map(|m| addr(case.steps[*m].0, *m)).collect(),
                None => Vec::new(),
            },
            reboot: *reboot,
            upload: *upload,
            small: case.small.get(i).is_some_and(|small| *small),
            moved_by: match case.moved_by.get(i) {
                Some(all) => all.iter().map(|m| addr(case.steps[*m].0, *m)).collect(),
                None => Vec::new(),
            },
        })
        .collect()
}

/// The world: answers commands in an order and a way the dice choose, and checks every rule.
struct World {
    specs: BTreeMap<StepAddr, StepSpec>,
    limits: Limits,
    dice: std::iter::Cycle<std::vec::IntoIter<u8>>,
    dialling: BTreeSet<NodeName>,
    up: BTreeSet<NodeName>,
    /// What runs on each node, in its order.
    running: BTreeMap<NodeName, VecDeque<StepAddr>>,
    done: BTreeSet<StepAddr>,
    ended: BTreeMap<StepAddr, Option<SkipReason>>,
    /// Members of the control plane, and whether each could be looked at.
    members: BTreeMap<NodeName, bool>,
    /// Those that were seen serving since the last step that took one down, and have been held since.
    serving: BTreeSet<NodeName>,
    /// Those that are being asked.
    proving: BTreeSet<NodeName>,
    /// Members whose reboot went wrong: whatever else they answer, they are not at work.
    broken: BTreeSet<NodeName>,
    /// Members that were rebooted well, and have not been seen serving since.
    owed: BTreeSet<NodeName>,
    /// Who is to leave, while its cluster counts on it, and the step that ends that.
    leaves: Option<(NodeName, StepAddr)>,
    cyclic: bool,
    cancelled: bool,
    aborted: BTreeSet<NodeName>,
    finished: bool,
}

impl World {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.dice.next().unwrap_or(0)) % sides.max(1)
    }

    fn idle(&self, node: &NodeName) -> bool {
        !self.running.contains_key(node) && !self.proving.contains(node)
    }

    fn let_go(&mut self, node: &NodeName) {
        self.up.remove(node);
        self.serving.remove(node);
    }

    fn end(&mut self, addr: &StepAddr, how: Option<SkipReason>) {
        assert!(
            self.ended.insert(addr.clone(), how).is_none(),
            "{addr} ended twice"
        );
    }

    fn obey(&mut self, commands: Vec<Command>) {
        for command in commands {
            assert!(!self.finished, "{command:?} after the end");
            match command {
                Command::Dial(node) => {
                    assert!(!self.cancelled, "dialled after an interrupt");
                    assert!(!self.up.contains(&node) && self.dialling.insert(node));
                    let members = if self.specs.values().any(|s| s.reboot) {
                        self.members.len()
                    } else {
                        0
                    };
                    let most = self.limits.nodes.max(1).max(members);
                    assert!(self.dialling.len() + self.up.len() <= most);
                }
                Command::Run(addrs) => {
                    assert!(!addrs.is_empty() && addrs.len() <= AT_ONCE);
                    if addrs.len() > 1 {
                        for addr in &addrs {
                            let spec = &self.specs[addr];
                            assert!(spec.small, "{addr} is not small");
                            assert_eq!(addr.node, addrs[0].node);
                            assert!(
                                !addrs.iter().any(|a| spec.moved_by.contains(a)),
                                "{addr} may be moved by what goes with it"
                            );
                        }
                    }
                    self.start(addrs);
                }
                Command::Reboot(addr) => self.start(vec![addr]),
                Command::Prove { node, patient } => {
                    assert!(!self.cancelled, "asked after an interrupt");
                    assert!(self.up.contains(&node) && self.idle(&node), "{node}");
                    assert!(self.members[&node], "nobody can say how {node} is asked");
                    assert_eq!(patient, self.owed.contains(&node), "{node}");
                    self.proving.insert(node);
                }
                Command::Skip { addr, reason } => {
                    if let SkipReason::Needs(cause) = &reason {
                        assert!(
                            *cause != addr || self.cyclic,
                            "{addr} is said to wait for itself"
                        );
                        // The first cause, which itself did not wait for another step.
                        assert!(
                            *cause == addr
                                || !matches!(self.ended.get(cause), Some(Some(SkipReason::Needs(other))) if other != cause),
                            "{addr} names {cause}"
                        );
                        assert!(!self.done.contains(cause));
                    }
                    self.end(&addr, Some(reason));
                }
                Command::Close(node) => {
                    assert!(self.up.contains(&node), "closed what is not up");
                    assert!(self.idle(&node), "closed under a running step");
                    let away = self.running.iter().find(|(n, all)| {
                        self.members.contains_key(*n) && all.iter().any(|a| self.specs[a].reboot)
                    });
                    if let Some((other, _)) = away {
                        let blank = !self.members.contains_key(&node);
                        assert!(blank, "{node} was let go while {other} is away");
                    }
                    self.let_go(&node);
                }
                Command::Abort(node) => {
                    self.aborted.insert(node);
                }
                Command::Finish => self.finished = true,
            }
        }
    }

    /// Steps of a node start: nothing else runs there, and all they need is done.
    fn start(&mut self, addrs: Vec<StepAddr>) {
        assert!(!self.cancelled, "started after an interrupt");
        for addr in &addrs {
            let spec = &self.specs[addr];
            assert!(
                spec.needs.iter().all(|n| self.done.contains(n)),
                "{addr} too early"
            );
            assert!(
                spec.after.iter().all(|n| self.ended.contains_key(n)),
                "{addr} before one it comes after has ended"
            );
            assert!(!self.ended.contains_key(addr));
            assert!(self.up.contains(&addr.node));
            if spec.reboot && self.members.contains_key(&addr.node) {
                for member in self.members.keys().filter(|m| **m != addr.node) {
                    let away = self
                        .running
                        .get(member)
                        .is_some_and(|all| all.iter().any(|a| self.specs[a].reboot));
                    let held = self.up.contains(member) && self.members[member];
                    assert!(
                        self.serving.contains(member) && held && !away,
                        "{addr} was let through while {member} is away"
                    );
                    assert!(!self.broken.contains(member));
                }
                if let Some((other, step)) = &self.leaves {
                    assert!(
                        step == addr || self.done.contains(step),
                        "{addr} was let through while {other} counts and is to leave"
                    );
                }
                self.serving.clear();
            }
        }
        let before = self.running.insert(addrs[0].node.clone(), addrs.into());
        assert_eq!(before, None, "two things on one node");
        let uploads = self
            .running
            .values()
            .flatten()
            .filter(|a| self.specs[*a].upload)
            .count();
        assert!(uploads <= self.limits.uploads.max(1));
    }

    /// Something that was begun comes to an answer.
    fn answer(&mut self) -> Option<Input> {
        let mut pending: Vec<NodeName> = self.dialling.iter().cloned().collect();
        pending.extend(self.running.keys().cloned());
        pending.extend(self.proving.iter().cloned());
        if pending.is_empty() {
            return None;
        }
        let pick = self.roll(pending.len());
        let node = pending.swap_remove(pick);
        if self.dialling.remove(&node) {
            return Some(if self.roll(6) == 0 || self.aborted.contains(&node) {
                self.owed.remove(&node);
                Input::NodeDown {
                    node,
                    why: "no answer".into(),
                }
            } else {
                self.up.insert(node.clone());
                Input::NodeUp(node)
            });
        }
        if self.proving.remove(&node) {
            self.owed.remove(&node);
            return Some(match self.roll(8) {
                0 => {
                    self.let_go(&node);
                    Input::NodeDown {
                        node,
                        why: "no answer".into(),
                    }
                }
                _ if self.aborted.contains(&node) => {
                    self.let_go(&node);
                    Input::NodeDown {
                        node,
                        why: "cut".into(),
                    }
                }
                1 => Input::Proved {
                    node,
                    serves: Err("etcd failed".into()),
                },
                _ => {
                    self.serving.insert(node.clone());
                    Input::Proved {
                        node,
                        serves: Ok(()),
                    }
                }
            });
        }
        let all = self.running.get_mut(&node)?;
        let addr = all.pop_front()?;
        // That a node went away is told with the last of several steps.
        let last = all.is_empty();
        if last {
            self.running.remove(&node);
        }
        let cut = self.aborted.contains(&node);
        let done = !cut && self.roll(5) != 0;
        let after = match self.roll(6) {
            _ if !last => After::Up,
            0 if !done => After::Down,
            1 => After::Away,
            _ if cut => After::Away,
            _ => After::Up,
        };
        if after != After::Up {
            self.let_go(&node);
        }
        let down = self.specs[&addr].reboot && self.members.get(&node) == Some(&true);
        if done {
            self.done.insert(addr.clone());
            if down && !self.broken.contains(&node) && after != After::Down {
                self.owed.insert(node.clone());
            }
        } else if down {
            self.broken.insert(node.clone());
            self.owed.remove(&node);
        }
        if after == After::Down {
            self.owed.remove(&node);
        }
        self.end(&addr, None);
        Some(Input::StepFinished {
            addr,
            done,
            node: after,
        })
    }
}

fn play(case: &Case) -> World {
    let specs = specs(case);
    let limits = Limits {
        nodes: case.limits.0,
        uploads: case.limits.1,
    };
    let members: BTreeMap<NodeName, bool> = case
        .members
        .iter()
        .map(|(node, seen)| (addr(*node, 0).node, *seen))
        .collect();
    let leaves = case
        .leaves
        .map(|(node, step)| (addr(node, 0).node, addr(case.steps[step].0, step)));
    let leaver = leaves.as_ref().map(|(name, _)| name.clone());
    let standing = |name: &NodeName, seen: &bool| {
        if Some(name) == leaver.as_ref() {
            Standing::Leaves
        } else if *seen {
            Standing::Unasked
        } else {
            Standing::Unknown("was not reached".to_owned())
        }
    };
    let guard: Box<dyn Guard> = Box::new(
        Quorum::new(
            members
                .iter()
                .map(|(name, seen)| (name.clone(), standing(name, seen))),
            specs.iter().filter(|s| s.reboot).map(|s| s.addr.clone()),
            [],
        )
        .with_departures(
            leaves
                .iter()
                .map(|(name, step)| (step.clone(), name.clone())),
        ),
    );
    // The others do without one that leaves.
    let members: BTreeMap<NodeName, bool> = members
        .into_iter()
        .filter(|(name, _)| Some(name) != leaver.as_ref())
        .collect();
    let mut world = World {
        specs: specs.iter().map(|s| (s.addr.clone(), s.clone())).collect(),
        limits,
        dice: case.dice.clone().into_iter().cycle(),
        dialling: BTreeSet::new(),
        up: BTreeSet::new(),
        running: BTreeMap::new(),
        done: BTreeSet::new(),
        ended: BTreeMap::new(),
        members,
        serving: BTreeSet::new(),
        proving: BTreeSet::new(),
        owed: BTreeSet::new(),
        broken: BTreeSet::new(),
        leaves,
        cyclic: case.cyclic,
        cancelled: false,
        aborted: BTreeSet::new(),
        finished: false,
    };
    let mut scheduler = Scheduler::new(specs, limits, guard);
    world.obey(scheduler.step(Input::Start));
    // Every answer ends a step or a dial; dials are bounded by steps and rooms made for them.
    for turn in 0..10_000 {
        if let Some((at, now)) = case.cancel_at
            && turn == at
            && !world.finished
        {
            world.cancelled = true;
            world.obey(scheduler.step(Input::Cancel(Cancel::Finish)));
            if now {
                world.obey(scheduler.step(Input::Cancel(Cancel::Now)));
            }
        }
        let Some(input) = world.answer() else { break };
        world.obey(scheduler.step(input));
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_ends_exactly_once_and_no_rule_is_broken(case in cases()) {
        let world = play(&case);
        prop_assert!(world.finished, "it never ended");
        prop_assert!(world.up.is_empty() && world.dialling.is_empty());
        prop_assert!(world.running.is_empty() && world.proving.is_empty());
        // Whoever was taken down was asked at the end, unless somebody was in a hurry.
        prop_assert!(world.owed.is_empty() || world.cancelled, "{:?}", world.owed);
        for addr in world.specs.keys() {
            prop_assert!(world.ended.contains_key(addr), "{addr} has no end");
        }
        let calm = case.cancel_at.is_none() && case.members.is_empty() && !case.cyclic;
        for (addr, how) in &world.ended {
            if calm && matches!(how, Some(SkipReason::Cancelled | SkipReason::Guard(_))) {
                prop_assert!(false, "{addr}: {how:?} for no reason");
            }
        }
    }
}

#[test]
fn with_all_members_at_work_every_one_of_them_has_its_turn() {
    let case = Case {
        steps: (0..4).map(|node| (node, vec![], true, false)).collect(),
        limits: (8, 1),
        // Dials succeed, steps are done, nodes stay up.
        dice: vec![4],
        cancel_at: None,
        members: vec![(0, true), (1, true), (2, true)],
        after: vec![],
        small: vec![],
        moved_by: vec![],
        leaves: None,
        cyclic: false,
    };
    let world = play(&case);
    assert!(world.finished);
    assert_eq!(world.done.len(), 4, "{:?}", world.ended);
}

#[test]
fn a_member_that_was_not_reached_keeps_the_others_up_and_says_so() {
    let case = Case {
        steps: vec![
            (0, vec![], true, false),
            (1, vec![], false, false),
            (2, vec![], true, false),
        ],
        limits: (8, 1),
        dice: vec![4],
        cancel_at: None,
        members: vec![(0, true), (1, true), (5, false)],
        after: vec![],
        small: vec![],
        moved_by: vec![],
        leaves: None,
        cyclic: false,
    };
    let world = play(&case);
    let words = "server n5 was not reached, so n0 has to stay up";
    assert_eq!(
        world.ended[&addr(0, 0)],
        Some(SkipReason::Guard(words.into()))
    );
    // An ordinary step of a member, and the reboot of a node that is none.
    assert!(world.done.contains(&addr(1, 1)) && world.done.contains(&addr(2, 2)));
}

#[test]
fn a_step_is_looked_at_ahead_only_if_nothing_else_could_come_first() {
    let case = Case {
        steps: vec![
            (0, vec![], false, false),
            (0, vec![0], false, false),
            (0, vec![1], true, false),
            (1, vec![1], false, false),
        ],
        limits: (4, 4),
        dice: vec![0],
        cancel_at: None,
        members: vec![],
        after: vec![],
        small: vec![],
        moved_by: vec![],
        leaves: None,
        cyclic: false,
    };
    let mut scheduler = Scheduler::new(
        specs(&case),
        Limits {
            nodes: 4,
            uploads: 4,
        },
        Box::new(NoGuard),
    );
    let n0 = NodeName::new("n0").unwrap();
    assert_eq!(scheduler.likely_first(&n0), [addr(0, 0)]);
    assert_eq!(scheduler.step(Input::Start), [Command::Dial(n0.clone())]);
    assert_eq!(
        scheduler.step(Input::NodeUp(n0)),
        [Command::Run(vec![addr(0, 0)])]
    );
    assert_eq!(scheduler.likely_next(&[addr(0, 0)]), [addr(0, 1)]);
    let done = Input::StepFinished {
        addr: addr(0, 0),
        done: true,
        node: After::Up,
    };
    assert_eq!(scheduler.step(done), [Command::Run(vec![addr(0, 1)])]);
    assert_eq!(
        scheduler.likely_next(&[addr(0, 1)]),
        [],
        "a reboot has its own way of looking"
    );
}

#[test]
fn a_thousand_nodes_are_scheduled_in_no_time() {
    let steps = (0..30_000).map(|i| {
        let needs = if i >= 1000 { vec![i - 1000] } else { vec![] };
        (i % 1000, needs, false, false)
    });
    let case = Case {
        steps: steps.collect(),
        limits: (64, 8),
        dice: vec![2],
        cancel_at: None,
        members: vec![],
        after: vec![],
        small: vec![],
        moved_by: vec![],
        leaves: None,
        cyclic: false,
    };
    let specs = specs(&case);
    let mut scheduler = Scheduler::new(
        specs,
        Limits {
            nodes: 64,
            uploads: 8,
        },
        Box::new(NoGuard),
    );
    let mut queue: std::collections::VecDeque<Command> = scheduler.step(Input::Start).into();
    let mut steps = 0;
    while let Some(command) = queue.pop_front() {
        let input = match command {
            Command::Dial(node) => Input::NodeUp(node),
            Command::Run(addrs) => {
                steps += 1;
                Input::StepFinished {
                    addr: addrs[0].clone(),
                    done: true,
                    node: After::Up,
                }
            }
            Command::Finish => break,
            _ => continue,
        };
        queue.extend(scheduler.step(input));
    }
    assert_eq!(steps, 30_000);
}

#[test]
fn small_steps_that_come_one_behind_the_other_go_together() {
    let small = |n: usize| {
        (0..n)
            .map(|_| (0, vec![], false, false))
            .collect::<Vec<_>>()
    };
    let mut steps = small(6);
    // Needs the first; may be moved by the third; is not small.
    steps[2].1 = vec![0];
    let mut case = Case {
        steps,
        small: vec![true, true, true, true, true, false],
        moved_by: vec![vec![], vec![], vec![], vec![], vec![3], vec![]],
        limits: (1, 1),
        dice: vec![4],
        cancel_at: None,
        members: vec![],
        leaves: None,
        after: vec![],
        cyclic: false,
    };
    assert_eq!(goes(&case), [vec![0, 1], vec![2, 3], vec![4], vec![5]]);
    case.steps = small(AT_ONCE + 1);
    case.small = vec![true; AT_ONCE + 1];
    case.moved_by = vec![];
    let sizes: Vec<usize> = goes(&case).iter().map(Vec::len).collect();
    assert_eq!(sizes, [AT_ONCE, 1]);
}

/// What is started in one go, by the numbers of the steps, when all is well. What would be looked at
/// ahead is what then starts.
fn goes(case: &Case) -> Vec<Vec<usize>> {
    let limits = Limits {
        nodes: 1,
        uploads: 1,
    };
    let mut scheduler = Scheduler::new(specs(case), limits, Box::new(NoGuard));
    let mut goes = Vec::new();
    let mut commands = scheduler.step(Input::Start);
    let mut likely: Vec<StepAddr> = Vec::new();
    loop {
        let mut next = Vec::new();
        for command in commands {
            match command {
                Command::Dial(node) => {
                    likely = scheduler.likely_first(&node);
                    next.extend(scheduler.step(Input::NodeUp(node)));
                }
                Command::Run(addrs) => {
                    assert_eq!(addrs, likely);
                    likely = scheduler.likely_next(&addrs);
                    goes.push(addrs.iter().map(|a| a.key.parse().unwrap()).collect());
                    for addr in addrs {
                        next.extend(scheduler.step(Input::StepFinished {
                            addr,
                            done: true,
                            node: After::Up,
                        }));
                    }
                }
                _ => {}
            }
        }
        if next.is_empty() {
            return goes;
        }
        commands = next;
    }
}
