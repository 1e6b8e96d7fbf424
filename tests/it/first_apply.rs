//! From blank cards to prepared nodes, and a second apply that finds nothing.

use crate::rig::Rig;

const INVENTORY: &str = "\
cluster: rack
ssh: { user: pi }
roles: [base, swap-off, cgroups]
nodes:
  rpi01: { address: 192.168.2.1 }
  rpi02: { address: 192.168.2.2 }
";

#[test]
fn blank_nodes_are_prepared_and_a_second_apply_is_empty() {
    let rig = Rig::up(INVENTORY, &["rpi02=rpi-os-bookworm"]);
    rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    rig.run(&["apply", "--yes"]).expect(0);
    let second = rig.run(&["apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    rig.run(&["plan", "--detailed-exitcode"]).expect(0);
}
