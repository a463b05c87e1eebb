//! The picture as SVG 1.1, whole in itself: no style sheet, no font, no script.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::layout::{self, Layout};
use super::{COLOURS, lines};
use crate::manifest::{Kind, Manifest, NeedState, Step};

/// Pixels. The letters are of one width, so that the size of a text is known without a font.
const FONT_SIZE: f64 = 12.0;
const CHAR_WIDTH: f64 = 7.25;
const LINE_HEIGHT: f64 = 17.0;
const PADDING_X: f64 = 16.0;
const PADDING_Y: f64 = 9.0;
/// Around the picture.
const MARGIN: f64 = 24.0;
/// Between the steps and the box of `finally`, with room for its title.
const BOX_GAP: f64 = 60.0;
/// Steps whose end nobody knows yet, and all where there is no run.
const PLAIN: (&str, &str) = ("#f5f7fa", "#1c2733");
const INK: &str = "#4a5866";
const FAILED_INK: &str = "#c62828";

/// Draws the playbook. `status` gives a step's status in a run, which colours it; None draws it plainly.
pub fn svg(manifest: &Manifest, status: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = draw(&mut text, manifest, &status);
    text
}

fn draw(out: &mut String, manifest: &Manifest, status: &dyn Fn(&str) -> Option<String>) -> fmt::Result {
    let needs: Vec<(usize, usize, NeedState)> = manifest
        .steps
        .iter()
        .enumerate()
        .flat_map(|(to, step)| {
            step.needs
                .iter()
                .map(move |need| (usize::from(need.step), to, need.state))
        })
        .collect();
    let edges: Vec<(usize, usize)> = needs.iter().map(|&(from, to, _)| (from, to)).collect();
    let steps = layout::layout(&sizes(&manifest.steps), &edges);
    let chain: Vec<(usize, usize)> = (1..manifest.finally.len()).map(|to| (to - 1, to)).collect();
    let last = layout::layout(&sizes(&manifest.finally), &chain);
    let has_last = !manifest.finally.is_empty();
    let title = "finally, one after another";
    let inner =
        steps
            .width
            .max(last.width + 2.0 * PADDING_X)
            .max(if has_last { width_of(title) } else { 0.0 });
    let legend = legend(manifest, status);
    let last_top = MARGIN + steps.height + BOX_GAP;
    let mut bottom = if has_last {
        last_top + last.height + PADDING_X
    } else {
        MARGIN + steps.height
    };
    let inner = inner.max(legend.iter().map(|(name, _)| width_of(name) + 34.0).sum());
    let legend_top = bottom + MARGIN;
    if !legend.is_empty() {
        bottom = legend_top + LINE_HEIGHT;
    }
    let (width, height) = (inner + 2.0 * MARGIN, bottom + MARGIN);
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="{FONT_SIZE}" role="img">"#
    )?;
    writeln!(
        out,
        "<title>{} v{}</title>",
        escaped(&manifest.playbook),
        manifest.version
    )?;
    writeln!(out, "<defs>")?;
    for (id, ink) in [("arrow", INK), ("arrow-failed", FAILED_INK)] {
        writeln!(
            out,
            r#"<marker id="{id}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{ink}"/></marker>"#
        )?;
    }
    writeln!(out, "</defs>")?;
    writeln!(out, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    let left = MARGIN + (inner - steps.width) / 2.0;
    for (points, &(_, _, state)) in steps.edges.iter().zip(&needs) {
        edge(out, points, (left, MARGIN), state)?;
    }
    nodes(out, &manifest.steps, &steps, (left, MARGIN), status)?;
    if has_last {
        let left = MARGIN + (inner - last.width) / 2.0;
        let (x, width) = (left - PADDING_X, last.width + 2.0 * PADDING_X);
        writeln!(
            out,
            r#"<rect x="{x:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" rx="8" fill="none" stroke="{INK}" stroke-dasharray="2 4"/>"#,
            last_top - PADDING_X,
            last.height + 2.0 * PADDING_X,
        )?;
        line(
            out,
            MARGIN + inner / 2.0,
            last_top - PADDING_X - 8.0,
            title,
            INK,
            false,
        )?;
        for points in &last.edges {
            edge(out, points, (left, last_top), NeedState::Succeeded)?;
        }
        nodes(out, &manifest.finally, &last, (left, last_top), status)?;
    }
    let mut x = MARGIN;
    for (name, ground) in legend {
        writeln!(
            out,
            r#"<rect x="{x:.1}" y="{:.1}" width="14" height="12" rx="3" fill="{ground}"/>"#,
            legend_top + 2.0
        )?;
        line(
            out,
            x + 20.0 + width_of(name) / 2.0,
            legend_top + 12.0,
            name,
            INK,
            false,
        )?;
        x += width_of(name) + 34.0;
    }
    writeln!(out, "</svg>")
}

/// The statuses that the picture has, with their colours.
fn legend(manifest: &Manifest, status: &dyn Fn(&str) -> Option<String>) -> Vec<(&'static str, &'static str)> {
    let steps = manifest.steps.iter().chain(&manifest.finally);
    let there: BTreeSet<String> = steps.filter_map(|step| status(&step.name)).collect();
    COLOURS
        .iter()
        .filter(|(name, _, _)| there.contains(*name))
        .map(|&(name, ground, _)| (name, ground))
        .collect()
}

fn sizes(steps: &[Step]) -> Vec<(f64, f64)> {
    let size = |step: &Step| {
        let lines = lines(step);
        let longest = lines.iter().map(|line| width_of(line)).fold(0.0, f64::max);
        (
            longest + 2.0 * PADDING_X,
            lines.len() as f64 * LINE_HEIGHT + 2.0 * PADDING_Y,
        )
    };
    steps.iter().map(size).collect()
}

fn width_of(line: &str) -> f64 {
    let columns = |c: char| match () {
        () if is_hidden(c) => c.escape_unicode().count(),
        // As wide as the widest letters of other scripts are.
        () if !c.is_ascii() => 2,
        () => 1,
    };
    line.chars().map(columns).sum::<usize>() as f64 * CHAR_WIDTH
}

fn edge(out: &mut String, points: &[(f64, f64)], (left, top): (f64, f64), state: NeedState) -> fmt::Result {
    let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (left + x, top + y)).collect();
    let mut path = String::new();
    for (at, &(x, y)) in points.iter().enumerate() {
        match at {
            0 => write!(path, "M{x:.1} {y:.1}")?,
            // Between two layers it bends, through a layer it goes straight down.
            at if at % 2 == 1 => {
                let (from_x, from_y) = points[at - 1];
                let middle = (from_y + y) / 2.0;
                write!(path, " C{from_x:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}")?;
            }
            _ => write!(path, " L{x:.1} {y:.1}")?,
        }
    }
    let (ink, marker, more, word) = match state {
        NeedState::Succeeded => (INK, "arrow", "", None),
        NeedState::Done => (INK, "arrow", r#" stroke-dasharray="6 4""#, Some("done")),
        NeedState::Failed => (
            FAILED_INK,
            "arrow-failed",
            r#" stroke-dasharray="6 4""#,
            Some("failed"),
        ),
    };
    writeln!(
        out,
        r#"<path d="{path}" fill="none" stroke="{ink}" stroke-width="1.3"{more} marker-end="url(#{marker})"/>"#
    )?;
    if let (Some(word), [.., (from_x, from_y), (x, y)]) = (word, points.as_slice()) {
        // In the middle of the last bend, which is on the line; on a ground of its own, since lines may cross there.
        let (at_x, at_y) = ((from_x + x) / 2.0, (from_y + y) / 2.0 + 3.0);
        for colour in [r##"#fff" stroke="#fff" stroke-width="4"##, ink] {
            writeln!(
                out,
                r#"<text x="{at_x:.1}" y="{at_y:.1}" font-size="10" text-anchor="middle" fill="{colour}">{word}</text>"#
            )?;
        }
    }
    Ok(())
}

fn nodes(
    out: &mut String,
    steps: &[Step],
    laid: &Layout,
    (left, top): (f64, f64),
    status: &dyn Fn(&str) -> Option<String>,
) -> fmt::Result {
    for ((step, &(x, y)), (width, height)) in steps.iter().zip(&laid.nodes).zip(sizes(steps)) {
        let (x, y) = (left + x, top + y);
        let status = status(&step.name);
        let (ground, ink) = COLOURS
            .iter()
            .find(|(name, _, _)| status.as_deref() == Some(*name))
            .map_or(PLAIN, |&(_, ground, ink)| (ground, ink));
        let told = status.map_or(String::new(), |status| format!(": {status}"));
        writeln!(out, "<g><title>{}{}</title>", escaped(&step.name), escaped(&told))?;
        shape(
            out,
            step,
            (x - width / 2.0, y - height / 2.0, width, height),
            ground,
        )?;
        let lines = lines(step);
        let first = y - (lines.len() as f64 - 1.0) * LINE_HEIGHT / 2.0 + FONT_SIZE / 3.0;
        for (at, text) in lines.iter().enumerate() {
            line(out, x, first + at as f64 * LINE_HEIGHT, text, ink, at == 0)?;
        }
        writeln!(out, "</g>")?;
    }
    Ok(())
}

/// What acts is a box, what decides has its corners cut, what waits for people or the world is round, and another
/// playbook has double sides.
fn shape(
    out: &mut String,
    step: &Step,
    (x, y, width, height): (f64, f64, f64, f64),
    ground: &str,
) -> fmt::Result {
    let style = format!(r#"fill="{ground}" stroke="{INK}""#);
    let radius = match step.kind {
        Kind::Decide { .. } | Kind::Score { .. } => {
            let (right, bottom, cut) = (x + width, y + height, 10.0);
            return writeln!(
                out,
                r#"<path d="M{:.1} {y:.1} H{:.1} L{right:.1} {:.1} V{:.1} L{:.1} {bottom:.1} H{:.1} L{x:.1} {:.1} V{:.1} z" {style}/>"#,
                x + cut,
                right - cut,
                y + cut,
                bottom - cut,
                right - cut,
                x + cut,
                bottom - cut,
                y + cut,
            );
        }
        Kind::Ask { .. } | Kind::WaitEvent { .. } => 20.0,
        Kind::Do { .. } | Kind::Notify { .. } | Kind::Playbook { .. } => 4.0,
    };
    writeln!(
        out,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="{radius}" {style}/>"#
    )?;
    if let Kind::Playbook { .. } = step.kind {
        let (left, right, bottom) = (x + 6.0, x + width - 6.0, y + height);
        writeln!(
            out,
            r#"<path d="M{left:.1} {y:.1} V{bottom:.1} M{right:.1} {y:.1} V{bottom:.1}" stroke="{INK}"/>"#
        )?;
    }
    Ok(())
}

fn line(out: &mut String, x: f64, y: f64, text: &str, ink: &str, bold: bool) -> fmt::Result {
    let weight = if bold { r#" font-weight="bold""# } else { "" };
    writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" fill="{ink}"{weight}>{}</text>"#,
        escaped(text)
    )
}

/// Letters that are no markup, and that are seen.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Control characters, those that change the direction of the text or cannot be seen, and what XML does not take.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    const TEXT: &str = r#"
playbook: p
version: 1
inputs: {hosts: {type: list<host>}}
targets: {all: {select: "true"}}
steps:
  end: {do: host.info, targets: all, when: 'size(inputs.hosts) > 0 && "</text><script>\u202e" != "&"'}
  verdict: {needs: [end], decide: [{when: size(steps.end.ok) > 1, set: {go: true}}, {else: {go: false}}]}
  cut: {needs: [verdict], do: host.isolate, with: {mode: network, ttl: 1h}, targets: all, when: steps.verdict.output.go}
  again: {needs: [cut.failed, end.done], do: host.info, targets: all}
finally:
  release: {do: host.release, targets: all}
  last: {do: host.info, targets: all}
"#;

    #[test]
    fn a_run_is_drawn_in_its_colours() {
        let manifest = compile(TEXT).expect("it compiles").manifest;
        let drawn = svg(&manifest, |step| match step {
            "end" | "cut" => Some("succeeded".to_owned()),
            "again" => Some("skipped".to_owned()),
            _ => None,
        });
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn nothing_that_a_playbook_says_is_markup_or_hidden() {
        let manifest = compile(TEXT).expect("it compiles").manifest;
        let drawn = svg(&manifest, |_| Some("<b>\u{202e}\u{0}".to_owned()));
        assert!(
            !drawn.contains("<script") && !drawn.contains("<b>") && !drawn.contains(['\u{202e}', '\u{0}'])
        );
        assert!(drawn.contains("&lt;/text&gt;"), "{drawn}");
        assert_eq!(drawn.matches("<text").count(), drawn.matches("</text>").count());
        assert_eq!(drawn, svg(&manifest, |_| Some("<b>\u{202e}\u{0}".to_owned())));
    }
}
