//! Who took most of a guest's time, in words.

use super::MAX_NAME_COLUMNS;
use crate::{
    export::terminal,
    model::{Occupant, OccupantKind, Vm, view::WorstOccupant},
};

/// In at most so many columns of text, as far as a name can be cut: `loud 75 %`. Absent where nothing was
/// taken in the interval.
pub(super) fn worst(vm: &Vm, columns: usize) -> Option<String> {
    let worst = WorstOccupant::of(vm)?;
    let percent = format!(" {:.0} %", worst.percent);
    let room = columns.saturating_sub(percent.len());
    let Occupant { kind, id, name } = worst.who;
    let cut = |name: &str, room: usize| terminal::fit(name, room.min(MAX_NAME_COLUMNS));
    let who = match kind {
        OccupantKind::Vm if worst.is_itself => "itself".to_owned(),
        OccupantKind::Vm if id.is_none() && name.as_deref() == Some("others") => "other guests".to_owned(),
        OccupantKind::Vm => {
            name.as_ref().or(id.as_ref()).map_or_else(|| "a guest".to_owned(), |name| cut(name, room))
        }
        kind => match name {
            Some(name) => {
                let kind = kind.key();
                format!("{kind} {}", cut(name, room.saturating_sub(kind.len() + 1)))
            }
            None => kind.key().to_owned(),
        },
    };
    Some(who + &percent)
}
