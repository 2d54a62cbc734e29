//! Windows: what they are parted and ordered by, and their frames.

use super::Analyst;
use super::scope::Scope;
use crate::sql::problem::Problem;
use sqlparser::ast::{WindowFrame, WindowFrameBound, WindowSpec};

impl Analyst<'_> {
    pub(super) fn window(&mut self, spec: &mut WindowSpec, scope: &Scope<'_>) -> Result<(), Problem> {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
        for key in partition_by {
            let shape = self.expr(key, scope)?;
            self.compared(&shape, "PARTITION BY", None)?;
        }
        for key in order_by {
            let shape = self.expr(&mut key.expr, scope)?;
            self.refuse_sealed(&shape, "ORDER BY in a window", None)?;
        }
        if let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame {
            for bound in std::iter::once(start_bound).chain(end_bound.as_mut()) {
                match bound {
                    WindowFrameBound::CurrentRow
                    | WindowFrameBound::Preceding(None)
                    | WindowFrameBound::Following(None) => {}
                    WindowFrameBound::Preceding(Some(offset)) | WindowFrameBound::Following(Some(offset)) => {
                        self.unsealed(offset, scope, "a window frame")?;
                    }
                }
            }
        }
        Ok(())
    }
}
