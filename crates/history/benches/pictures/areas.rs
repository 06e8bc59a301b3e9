//! Areas on top of each other over time, as an SVG that is written by hand.

use std::fmt::Write as _;

/// A picture.
pub(crate) struct Areas {
    pub(crate) title: String,
    /// How long the time is that it shows.
    pub(crate) hours: u64,
    /// The top of the scale.
    pub(crate) most: u64,
    /// From the bottom upwards.
    pub(crate) series: Vec<Series>,
}

/// What one area shows.
pub(crate) struct Series {
    pub(crate) name: String,
    /// Up to which time, in milliseconds, it was so much.
    pub(crate) points: Vec<(u64, u64)>,
}

const WIDE: u64 = 720;
const HIGH: u64 = 200;
const LEFT: u64 = 50;
const TOP: u64 = 60;
const COLOURS: [&str; 4] = ["#6aa5c9", "#d08c4a", "#2f6f9f", "#b0b7bd"];
const HOUR_MS: u64 = 3_600_000;

pub(crate) fn picture(areas: &Areas) -> String {
    let (wide, high) = (LEFT + WIDE + 20, TOP + HIGH + 40);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{wide}\" height=\"{high}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        areas.title
    );
    let mut below: Vec<u64> = Vec::new();
    for (at, series) in areas.series.iter().enumerate() {
        below.resize(series.points.len(), 0);
        area_into(&mut text, areas, series, &mut below, COLOURS[at % COLOURS.len()]);
        let (x, colour) = (LEFT + at as u64 * 240, COLOURS[at % COLOURS.len()]);
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(text, "<text x=\"{}\" y=\"43\">{}</text>", x + 18, series.name);
    }
    axes_into(&mut text, areas);
    text.push_str("</svg>\n");
    text
}

/// Steps: each amount holds from the time of the point before until its own.
fn area_into(text: &mut String, areas: &Areas, series: &Series, below: &mut [u64], colour: &str) {
    let x = |at_ms: u64| LEFT + at_ms * WIDE / (areas.hours * HOUR_MS);
    let y = |amount: u64| TOP + HIGH - amount.min(areas.most) * HIGH / areas.most.max(1);
    let (mut upper, mut lower, mut from) = (String::new(), Vec::new(), 0);
    for ((until, amount), below) in series.points.iter().zip(below) {
        let above = *below + amount;
        let _ = write!(upper, "{},{} {},{} ", x(from), y(above), x(*until), y(above));
        lower.push(format!("{},{} {},{} ", x(*until), y(*below), x(from), y(*below)));
        (*below, from) = (above, *until);
    }
    let lower: String = lower.into_iter().rev().collect();
    let _ = writeln!(text, "<polygon points=\"{upper}{lower}\" fill=\"{colour}\"/>");
}

fn axes_into(text: &mut String, areas: &Areas) {
    let bottom = TOP + HIGH;
    for amount in [0, areas.most / 2, areas.most] {
        let y = bottom - amount * HIGH / areas.most.max(1);
        let _ = writeln!(text, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{amount}</text>", LEFT - 8, y + 4);
        let (to, line) = (LEFT + WIDE, "stroke=\"#888\" stroke-width=\"0.5\"");
        let _ = writeln!(text, "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" {line}/>");
    }
    for hour in 0..=areas.hours {
        let x = LEFT + hour * WIDE / areas.hours.max(1);
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{hour} h</text>", bottom + 18);
    }
}
