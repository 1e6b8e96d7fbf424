//! Groups, whether or not a node is in them.

use crate::diagnostic::Diagnostic;
use crate::label;
use crate::load::Scope;
use crate::taint::Taint;

/// Checks labels and taints of groups at their own place: a mistake there is one finding, not
/// one for every node.
pub fn check(scope: &Scope<'_>, out: &mut Vec<Diagnostic>) {
    for (_, _, group) in scope.document.groups.iter().flat_map(|groups| &groups.0) {
        for (key, span, value) in group.labels.iter().flat_map(|labels| &labels.0) {
            if let Err(rule) = label::check_key(key) {
                out.push(Diagnostic::new(format!("`{key}` is not a label"), span).help(rule));
            }
            if let Err(rule) = label::check_value(&value.value.0) {
                out.push(
                    Diagnostic::new(
                        format!("{:?} is not a label value", value.value.0),
                        &value.span,
                    )
                    .help(rule),
                );
            }
        }
        for taint in group.taints.iter().flatten() {
            if let Err(rule) = Taint::parse(&taint.value.0) {
                out.push(
                    Diagnostic::new(format!("{:?} is not a taint", taint.value.0), &taint.span)
                        .help(rule),
                );
            }
        }
    }
}
