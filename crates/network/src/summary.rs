//! The table that shows a network to a person.

use crate::quantization::Quantization;
use crate::shape::{LayerInfo, Network};

/// One line per layer (name, type, output shape, parameters, multiply–accumulates) and the totals.
#[must_use]
pub fn summary(network: &Network) -> String {
    table(network, None)
}

/// As [`summary`]; for a network with layers that are integers with the precision of each layer with weights, as
/// [`Quantization::precision`] calls it.
#[must_use]
pub fn summary_with_precision(network: &Network, quantization: Option<&Quantization>) -> String {
    let Some(quantization) = quantization else { return summary(network) };
    let precision = |layer: &LayerInfo| match layer.macs {
        0 => "",
        _ => quantization.precision(&layer.name),
    };
    table(network, Some(&precision))
}

fn table(network: &Network, precision: Option<&dyn Fn(&LayerInfo) -> &'static str>) -> String {
    let last = if precision.is_some() { "precision" } else { "" };
    let mut rows = vec![["layer", "type", "output", "parameters", "MACs", last].map(str::to_owned)];
    for input in &network.spec().inputs {
        rows.push([
            input.name.clone(),
            "input".to_owned(),
            shape(&input.shape),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    for layer in network.layers() {
        let count: usize = layer.parameters.iter().filter(|p| p.role.is_trained()).map(|p| p.len()).sum();
        let number = |value: u64| if value == 0 { String::new() } else { thousands(value) };
        rows.push([
            format!("{}{}", "  ".repeat(layer.depth), layer.name),
            layer.type_name.to_owned(),
            shape(&layer.output),
            number(count as u64),
            number(layer.macs),
            precision.map(|precision| precision(layer)).unwrap_or_default().to_owned(),
        ]);
    }
    let [parameters, macs] = [network.parameter_count(), network.macs()].map(thousands);
    rows.push(["total".to_owned(), String::new(), String::new(), parameters, macs, String::new()]);
    let mut widths = [0usize; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let fill = " ".repeat(width - cell.chars().count());
            let separator = if column == 0 { "" } else { "  " };
            // Numbers stand to the right, names to the left.
            if column == 3 || column == 4 {
                line += &format!("{separator}{fill}{cell}");
            } else {
                line += &format!("{separator}{cell}{fill}");
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn shape(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
