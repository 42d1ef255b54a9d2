//! One tensor: in which of four forms it is shortest, and each of them.

use network::{DType, Elements};

use super::bits;
use super::coder::{Coder, Cost};
use super::dense;
use super::floats;
use super::mixing::PRECISION_ONE;
use super::numbers::{Numbers, Tree};
use super::palette::{self, Palette, PaletteModel};
use super::sparse::{self, FARTHEST, Rows, Setting};
use super::view::{self, View};

/// Tensors of more elements are not tried in every way.
const LARGE: usize = 1 << 20;

/// Units of more inputs are not coded by their levels: the models remember some thirty bytes for each input, and
/// that must not be much beside the tensor itself.
const MOST_INPUTS: usize = 1 << 22;

/// How the elements of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All their bits as they are.
    Raw = 0,
    /// Floats: exponents by how frequent they are, the rest as it is.
    Floats = 1,
    /// Few values, none of which prevails.
    Dense = 2,
    /// Few values, most of them zero.
    Sparse = 3,
}

/// What a file tells of a tensor beside its type and shape, and the levels of its elements.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    form: Form,
    view: View,
    palette: Option<Palette>,
    density: u32,
    levels: Vec<i32>,
}

/// What is learnt from tensor to tensor.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    forms: Tree,
    numbers: Numbers,
    palettes: PaletteModel,
    /// Of the last matrix: for each unit how many weights are not zero, where that is known.
    busy: Option<Vec<u32>>,
    /// Of the last matrix: how many units it has.
    units: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            forms: Tree::new(2),
            numbers: Numbers::new(),
            palettes: PaletteModel::new(),
            busy: None,
            units: 0,
        }
    }
}

/// Where the elements are: an encoder has them and a plan, a decoder wants them.
pub(super) enum Side<'a> {
    Write(&'a Elements, &'a Plan),
    Read(&'a mut Elements),
}

/// Codes a tensor of at least one element; nothing when what is read cannot have been written.
pub(super) fn code<C: Coder>(
    coder: &mut C,
    memory: &mut Memory,
    shape: &[usize],
    side: &mut Side<'_>,
) -> Option<()> {
    let (dtype, plan) = match side {
        Side::Write(elements, plan) => (elements.dtype(), Some(*plan)),
        Side::Read(elements) => (elements.dtype(), None),
    };
    let form = memory.forms.code(coder, plan.map_or(0, |plan| plan.form as u32));
    let mut busy = None;
    match form {
        0 => raw(coder, dtype, side)?,
        1 => floats::code(coder, &mut memory.numbers, dtype, side)?,
        _ => busy = few(coder, memory, form == Form::Sparse as u32, dtype, shape, side)?,
    }
    // What belongs to the outputs of a matrix says nothing of the inputs of the next.
    if shape.len() > 1 {
        memory.units = View::of(shape).units;
        memory.busy = busy;
    }
    (!coder.failed()).then_some(())
}

fn raw<C: Coder>(coder: &mut C, dtype: DType, side: &mut Side<'_>) -> Option<()> {
    let width = bits::width(dtype);
    match side {
        Side::Write(elements, _) => {
            for index in 0..elements.len() {
                coder.uniform_wide(bits::get(elements, index), width);
            }
        }
        Side::Read(elements) => {
            for index in 0..elements.len() {
                let value = coder.uniform_wide(0, width);
                bits::set(elements, index, value);
                if coder.failed() {
                    return None;
                }
            }
        }
    }
    Some(())
}

/// Codes a tensor of few values, and returns how many of each unit are not zero when it is sparse.
#[allow(clippy::option_option, reason = "the outer one is the end of a stream")]
fn few<C: Coder>(
    coder: &mut C,
    memory: &mut Memory,
    is_sparse: bool,
    dtype: DType,
    shape: &[usize],
    side: &mut Side<'_>,
) -> Option<Option<Vec<u32>>> {
    let plan = match side {
        Side::Write(_, plan) => Some(*plan),
        Side::Read(_) => None,
    };
    let told = plan.and_then(|plan| plan.palette.as_ref());
    let palette = Palette::code(told, coder, &mut memory.palettes, dtype)?;
    let (low, high) = palette.span();
    let mut view = plan.map_or_else(|| View::of(shape), |plan| plan.view);
    if view.inputs > MOST_INPUTS {
        return None;
    }
    if is_sparse {
        view = view.code(coder, &mut memory.numbers)?;
    }
    let before = memory.busy.as_deref().and_then(|busy| view::spread(busy, view.inputs));
    let density = plan.map_or(1, |plan| plan.density);
    let setting = Setting { view, low, high, before: before.as_deref(), density };
    let mut rows = match side {
        Side::Write(_, plan) => Levels { view, place: Place::Known(&plan.levels) },
        Side::Read(elements) => Levels { view, place: Place::Wanted(elements, &palette, dtype) },
    };
    if low == high {
        // One value throughout takes no bits.
        let row = vec![0; view.inputs];
        (0..view.units).for_each(|unit| rows.store(unit, &row));
        return Some(is_sparse.then(|| vec![0; view.units]));
    }
    if is_sparse {
        let near = -low <= FARTHEST && high <= FARTHEST;
        return Some(Some(near.then(|| sparse::code(coder, &setting, &mut rows))??));
    }
    dense::code(coder, &setting, &mut rows)?;
    Some(None)
}

enum Place<'a> {
    Known(&'a [i32]),
    Wanted(&'a mut Elements, &'a Palette, DType),
}

struct Levels<'a> {
    view: View,
    place: Place<'a>,
}

impl Rows for Levels<'_> {
    fn load(&mut self, unit: usize, row: &mut [i32]) {
        if let Place::Known(levels) = self.place {
            row.iter_mut()
                .enumerate()
                .for_each(|(input, level)| *level = levels[self.view.index(unit, input)]);
        }
    }

    fn store(&mut self, unit: usize, row: &[i32]) {
        if let Place::Wanted(elements, palette, dtype) = &mut self.place {
            for (input, &level) in row.iter().enumerate() {
                bits::set(elements, self.view.index(unit, input), palette.bits(*dtype, level));
            }
        }
    }
}

/// The plan that takes the fewest bits.
pub(super) fn plan(memory: &Memory, shape: &[usize], elements: &Elements) -> Plan {
    let mut best = raw_plan(shape);
    let count = elements.len();
    let cost = |plan: &Plan| {
        let mut cost = Cost::default();
        // A plan that is made here can be written.
        let written = code(&mut cost, &mut memory.clone(), shape, &mut Side::Write(elements, plan));
        if written.is_some() { cost.units } else { u64::MAX }
    };
    let mut least = cost(&best);
    let mut consider = |plan: Plan| {
        let units = cost(&plan);
        if units < least {
            (best, least) = (plan, units);
        }
    };
    if bits::mantissa(elements.dtype()).is_some() {
        consider(Plan { form: Form::Floats, ..raw_plan(shape) });
    }
    let view = View::of(shape);
    let Some(values) = palette::distinct(elements).filter(|_| view.inputs <= MOST_INPUTS) else {
        return best;
    };
    let large = count > LARGE;
    let palettes = Palette::candidates(elements.dtype(), &values);
    for palette in palettes.into_iter().take(if large { 1 } else { usize::MAX }) {
        let of = palette.levels(elements.dtype());
        let level = |index| of.get(&bits::get(elements, index)).copied().unwrap_or_default();
        let levels: Vec<i32> = (0..count).map(level).collect();
        let present = levels.iter().filter(|&&level| level != 0).count();
        let density = (present as u64 * u64::from(PRECISION_ONE) / count.max(1) as u64) as u32;
        let (low, high) = palette.span();
        let mut plan = Plan { form: Form::Dense, view, palette: Some(palette), density, levels };
        let is_sparse = present <= count / 2;
        if !(large && is_sparse) {
            consider(plan.clone());
        }
        // Counting up to the sizes of integers of eight bits takes long, and gains nothing.
        let is_long = high - low > 32 && count > 4096 && present > count / 4 * 3;
        if -low > FARTHEST || high > FARTHEST || is_long || (large && !is_sparse) {
            continue;
        }
        plan.form = Form::Sparse;
        let pictures = view.pictures(memory.units);
        let flat = !large || pictures.is_empty();
        for view in pictures.into_iter().chain(flat.then_some(view)) {
            consider(Plan { view, ..plan.clone() });
        }
    }
    best
}

/// The plan that every tensor can have.
pub(super) fn raw_plan(shape: &[usize]) -> Plan {
    Plan { form: Form::Raw, view: View::of(shape), palette: None, density: 1, levels: Vec::new() }
}
