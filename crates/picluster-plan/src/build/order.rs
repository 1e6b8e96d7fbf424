//! Transforms that put a node's resources in order.

use picluster_resource::Token;

use super::Workbench;

impl Workbench<'_> {
    /// Transform: `needs` written in roles.
    pub(super) fn add_needs(&mut self) {
        for i in 0..self.items.len() {
            for need in self.items[i].needs {
                let role = &self.items[i].addr.role;
                let named = |j: &usize| {
                    let other = &self.items[*j];
                    let by_kind = format!("{}[{}]", other.addr.kind, other.addr.key);
                    by_kind == *need || (other.id == Some(need) && &other.addr.role == role)
                };
                let found: Vec<usize> = (0..self.items.len()).filter(named).collect();
                for j in found {
                    self.order.edge(j, i);
                }
            }
        }
    }

    /// Transform: order that follows from what things are (a file in a directory, a unit of a
    /// package).
    pub(super) fn add_token_edges(&mut self) {
        let provided: Vec<Vec<Token>> = self.items.iter().map(|i| i.resource.provides()).collect();
        for i in 0..self.items.len() {
            let mut needs = self.items[i].resource.requires();
            needs.extend(self.items[i].resource.reactions().into_iter().map(|r| r.on));
            for need in needs {
                // Nobody waits for what it is itself: two entries may be about one unit.
                if matches!(need, Token::Unit(_)) && provided[i].contains(&need) {
                    continue;
                }
                if let Token::Below(dir) = &need {
                    let within = |t: &Token| matches!(t, Token::Path(p) if p.is_under(dir));
                    (0..provided.len())
                        .filter(|j| provided[*j].iter().any(within))
                        .for_each(|j| self.order.edge(j, i));
                } else if let Some(j) = provider(&provided, &need, i) {
                    self.order.edge(j, i);
                }
            }
            // Two resources that edit one file do so in the order they are declared.
            for token in &provided[i] {
                if let (Token::Path(_), Some(j)) =
                    (token, (0..i).rev().find(|j| provided[*j].contains(token)))
                {
                    self.order.edge(j, i);
                }
            }
        }
    }

    /// Transform: a barrier stands between everything declared before and behind it.
    pub(super) fn add_barriers(&mut self) {
        for b in 0..self.items.len() {
            if self.items[b].barrier {
                (0..b).for_each(|j| self.order.edge(j, b));
                (b + 1..self.items.len()).for_each(|j| self.order.edge(b, j));
            }
        }
    }
}

/// Who brings `need`: the exact provider, or for a path the nearest directory above it.
fn provider(provided: &[Vec<Token>], need: &Token, me: usize) -> Option<usize> {
    let others = || (0..provided.len()).filter(|j| *j != me);
    let exact = others().find(|j| provided[*j].contains(need));
    let Token::Path(path) = need else {
        return exact;
    };
    exact.or_else(|| {
        others()
            .filter_map(|j| {
                provided[j]
                    .iter()
                    .filter_map(|token| match token {
                        Token::Path(above) if path.is_under(above) => {
                            Some((above.as_str().len(), j))
                        }
                        _ => None,
                    })
                    .max()
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, j)| j)
    })
}
