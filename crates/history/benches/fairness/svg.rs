//! Bars beside each other, as an SVG that is written by hand.

use std::fmt::Write as _;

/// One panel of bars, each with its own scale.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, u64)>,
}

const PANEL: u64 = 220;
const HIGH: u64 = 150;
const TOP: u64 = 70;
const COLOURS: [&str; 4] = ["#2f6f9f", "#6aa5c9", "#b0b7bd", "#d08c4a"];

/// A picture of panels, from left to right.
pub(crate) fn picture(title: &str, panels: &[Panel]) -> String {
    let (wide, high) = (PANEL * panels.len() as u64 + 20, TOP + HIGH + 40);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{wide}\" height=\"{high}\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    for (at, panel) in (0..).zip(panels) {
        panel_into(&mut text, 20 + at * PANEL, panel);
    }
    text.push_str("</svg>\n");
    text
}

fn panel_into(text: &mut String, left: u64, panel: &Panel) {
    let most = panel.bars.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let _ = writeln!(text, "<text x=\"{left}\" y=\"50\" font-weight=\"bold\">{}</text>", panel.title);
    let step = (PANEL - 30) / panel.bars.len().max(1) as u64;
    for (at, (name, value)) in (0..).zip(&panel.bars) {
        let (x, high) = (left + at * step, value * (HIGH - 20) / most);
        let (y, colour) = (TOP + HIGH - high, COLOURS[at as usize % COLOURS.len()]);
        let (wide, middle) = (step - 8, x + (step - 8) / 2);
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" fill=\"{colour}\"/>");
        let _ = writeln!(text, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{value}</text>", y - 4);
        let _ = writeln!(text, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", TOP + HIGH + 16);
    }
}
