//! Medians, as Markdown.

/// The median of some samples, if there are any.
pub(crate) fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    let upper = *samples.get(middle)?;
    Some(if samples.len().is_multiple_of(2) { f64::midpoint(samples[middle - 1], upper) } else { upper })
}

/// A number with three significant digits.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// Prints a table with a title, the names of the columns, and rows whose first cell is their name.
pub(crate) fn print(title: &str, columns: &[String], rows: &[Vec<String>]) {
    println!("\n{title}\n");
    println!("| | {} |", columns.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
