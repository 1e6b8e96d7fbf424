//! Whether every name a template uses exists on the nodes that use it.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::inventory::Inventory;
use crate::kinds::Kinds;
use crate::load::Scope;
use crate::name::RoleName;
use crate::role::Role;

/// Checks the templates in values of the inventory, and the variables roles ask for.
pub fn check(
    scope: &Scope<'_>,
    inventory: &Inventory,
    roles: &IndexMap<RoleName, Role>,
    kinds: &dyn Kinds,
    out: &mut Vec<Diagnostic>,
) {
    let _ = (scope, inventory, roles, kinds, out);
}
