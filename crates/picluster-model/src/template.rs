//! Templates: minijinja, strict, without clock and chance.

use crate::diagnostic::Diagnostic;
use crate::kinds::Kinds;
use crate::role::Role;

/// Checks every template and expression of a role as far as that goes without a node.
pub(crate) fn check_role(role: &Role, kinds: &dyn Kinds, out: &mut Vec<Diagnostic>) {
    let _ = (role, kinds, out);
}
