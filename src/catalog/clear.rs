//! Columns that hold a tag's values in clear, remembered by their numbers: names can change hands behind our back.
//!
//! Guarantees: while this process lives, a column that held a tag's values in clear is under that tag's domain, or
//! sealed, or gone, or its relation is unreadable; so it stays until the tags are changed. Deliberately absent: anything
//! across restarts. What was renamed before the first reading is only seen where a tagged column is missing (`build`).

use super::build::tag_of;
use super::{Relation, State, Tag};
use std::collections::HashMap;

/// (relation, attribute number) → the tag that applied to it.
#[derive(Clone, Debug, Default)]
pub struct ClearColumns(HashMap<(u32, i16), Tag>);

impl ClearColumns {
    /// Remembers the clear columns of `relation`, and makes it unreadable where one was that the tags do not reach any
    /// more. `tags` are those of the relation, nearest first, `all` every tag of the database.
    pub(super) fn look_at(
        &mut self,
        relation: &mut Relation,
        tags: &[&Tag],
        all: &HashMap<(String, String), Vec<Tag>>,
    ) {
        let stands = |known: &Tag| {
            all.get(&(known.schema.clone(), known.table.clone())).is_some_and(|tags| {
                tags.iter().any(|tag| tag.column == known.column && tag.domain.name == known.domain.name)
            })
        };
        for column in &relation.columns {
            let place = (relation.oid, column.number);
            let sealed = column.tag.as_ref().is_some_and(|tag| matches!(tag.state, State::Sealed { .. }));
            let known = self.0.get(&place).filter(|known| stands(known));
            match (known, tag_of(tags, &column.name)) {
                _ if sealed => drop(self.0.remove(&place)),
                (Some(known), now) if now.is_none_or(|now| now.domain.name != known.domain.name) => {
                    relation.unreadable.get_or_insert_with(|| {
                        format!(
                            "its column \"{}\" was tagged as {}.{}.{} until it, its table or its parent changed",
                            column.name, known.schema, known.table, known.column
                        )
                    });
                }
                (_, Some(now)) => drop(self.0.insert(place, now.clone())),
                (_, None) => drop(self.0.remove(&place)),
            }
        }
    }

    /// Forgets relations that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|(relation, _), _| is_there(*relation));
    }
}
