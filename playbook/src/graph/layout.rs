//! Where the nodes of a directed graph without cycles stand, layer by layer, and how its edges go.
//!
//! As in Sugiyama, Tagawa and Toda (1981): a node is one layer below the lowest that it waits for; an edge over more
//! than one layer gets a bend in each between; the order within a layer is that of the neighbours' means; then each node
//! goes as near to its neighbours' mean as the order allows. The same graph is always laid out the same way.

/// Pixels between two nodes of a layer.
const GAP_X: f64 = 28.0;
/// Pixels between two layers.
const GAP_Y: f64 = 52.0;
/// The width that an edge takes where it passes a layer.
const BEND_WIDTH: f64 = 12.0;
/// With more bends than this, long edges go straight: the picture is no better, and only larger.
const BENDS_MAX: usize = 20_000;
/// Times that the layers are gone through, down and up in turn.
const SWEEPS: usize = 16;

/// Where everything is. Pixels from the upper left.
pub(super) struct Layout {
    pub width: f64,
    pub height: f64,
    /// The centre of each node.
    pub nodes: Vec<(f64, f64)>,
    /// For each edge, where it goes down through: pairs of the upper and the lower end of a straight piece. The first
    /// begins and the last ends at a node; bends are between.
    pub edges: Vec<Vec<(f64, f64)>>,
}

/// What stands in a layer: a node, or the bend of an edge.
struct Cell {
    width: f64,
    height: f64,
    layer: usize,
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

/// Lays out nodes of these sizes. An edge goes from the first of its two nodes down to the second.
pub(super) fn layout(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Layout {
    let mut cells: Vec<Cell> = sizes
        .iter()
        .zip(layers(sizes.len(), edges))
        .map(|(&(width, height), layer)| cell(width, height, layer))
        .collect();
    let chains = chains(&mut cells, edges);
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        if rows.len() <= cell.layer {
            rows.resize_with(cell.layer + 1, Vec::new);
        }
        rows[cell.layer].push(number);
    }
    order(&cells, &mut rows);
    for row in &rows {
        let mut x = 0.0;
        for &number in row {
            cells[number].x = x + cells[number].width / 2.0;
            x += cells[number].width + GAP_X;
        }
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..rows.len() {
            let row = if down { step } else { rows.len() - 1 - step };
            settle(&mut cells, &rows[row], down);
        }
    }
    placed(&cells, &rows, &chains, sizes.len())
}

fn cell(width: f64, height: f64, layer: usize) -> Cell {
    Cell {
        width,
        height,
        layer,
        above: Vec::new(),
        below: Vec::new(),
        x: 0.0,
    }
}

/// One below the lowest that a node waits for. Without cycles this ends after as many rounds as there are layers.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    for _ in 0..count {
        let mut changed = false;
        for &(from, to) in edges {
            if layers[to] <= layers[from] {
                layers[to] = layers[from] + 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    layers
}

/// For each edge the cells that it goes through, its nodes included; makes the bends.
fn chains(cells: &mut Vec<Cell>, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let span = |cells: &[Cell], &(from, to): &(usize, usize)| cells[to].layer - cells[from].layer;
    let bends: usize = edges.iter().map(|edge| span(cells, edge) - 1).sum();
    let mut chains = Vec::with_capacity(edges.len());
    for &(from, to) in edges {
        let mut chain = vec![from];
        if bends <= BENDS_MAX {
            for layer in cells[from].layer + 1..cells[to].layer {
                chain.push(cells.len());
                cells.push(cell(BEND_WIDTH, 0.0, layer));
            }
        }
        chain.push(to);
        for pair in chain.windows(2) {
            if cells[pair[1]].layer == cells[pair[0]].layer + 1 {
                cells[pair[0]].below.push(pair[1]);
                cells[pair[1]].above.push(pair[0]);
            }
        }
        chains.push(chain);
    }
    chains
}

/// Orders each layer by the mean position of the neighbours in the layer before, which has the least crossings or
/// nearly. Whoever has no neighbour there keeps its position.
fn order(cells: &[Cell], rows: &mut [Vec<usize>]) {
    let mut position = vec![0.0; cells.len()];
    for row in rows.iter() {
        number(row, &mut position);
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..rows.len() {
            let at = if down { step } else { rows.len() - 1 - step };
            let mut keyed: Vec<(f64, usize)> = rows[at]
                .iter()
                .map(|&cell| {
                    let neighbours = if down {
                        &cells[cell].above
                    } else {
                        &cells[cell].below
                    };
                    (mean(neighbours, |n| position[n]).unwrap_or(position[cell]), cell)
                })
                .collect();
            // Stable: those with the same mean stay as they were.
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[at] = keyed.into_iter().map(|(_, cell)| cell).collect();
            number(&rows[at], &mut position);
        }
    }
}

/// Positions from 0 to 1, so that layers of different lengths compare.
fn number(row: &[usize], position: &mut [f64]) {
    for (at, &cell) in row.iter().enumerate() {
        position[cell] = (at as f64 + 0.5) / row.len() as f64;
    }
}

fn mean(cells: &[usize], of: impl Fn(usize) -> f64) -> Option<f64> {
    (!cells.is_empty()).then(|| cells.iter().map(|&cell| of(cell)).sum::<f64>() / cells.len() as f64)
}

/// Moves the cells of a layer as near to their neighbours' means as their order and widths allow: the least squares
/// under an order, by pooling neighbours that want to pass each other.
fn settle(cells: &mut [Cell], row: &[usize], down: bool) {
    // With the room that all before it need taken off, cells only need not to be left of the one before.
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (at, &number) in row.iter().enumerate() {
        if at > 0 {
            offset += (cells[row[at - 1]].width + cells[number].width) / 2.0 + GAP_X;
        }
        offsets.push(offset);
        let cell = &cells[number];
        let neighbours = if down { &cell.above } else { &cell.below };
        let wanted = mean(neighbours, |n| cells[n].x).unwrap_or(cell.x) - offset;
        let mut pool = (wanted, 1);
        while let Some(last) = pools.last().filter(|last| last.0 > pool.0) {
            let count = last.1 + pool.1;
            pool = (
                (last.0 * last.1 as f64 + pool.0 * pool.1 as f64) / count as f64,
                count,
            );
            pools.pop();
        }
        pools.push(pool);
    }
    let settled = pools.iter().flat_map(|&(x, count)| std::iter::repeat_n(x, count));
    for ((&number, x), offset) in row.iter().zip(settled).zip(offsets) {
        cells[number].x = x + offset;
    }
}

fn placed(cells: &[Cell], rows: &[Vec<usize>], chains: &[Vec<usize>], nodes: usize) -> Layout {
    let left = cells
        .iter()
        .map(|cell| cell.x - cell.width / 2.0)
        .fold(f64::INFINITY, f64::min);
    let left = if left.is_finite() { left } else { 0.0 };
    let width = cells
        .iter()
        .map(|cell| cell.x + cell.width / 2.0 - left)
        .fold(0.0, f64::max);
    // Top and height of each layer.
    let mut bands = Vec::with_capacity(rows.len());
    let mut y = 0.0;
    for row in rows {
        let height = row.iter().map(|&cell| cells[cell].height).fold(0.0, f64::max);
        bands.push((y, height));
        y += height + GAP_Y;
    }
    let middle = |cell: usize| {
        let (top, height) = bands[cells[cell].layer];
        top + height / 2.0
    };
    let x = |cell: usize| cells[cell].x - left;
    let edges = chains.iter().map(|chain| {
        let mut points = Vec::with_capacity(2 * chain.len() - 2);
        for (at, &cell) in chain.iter().enumerate() {
            let half = cells[cell].height / 2.0;
            let (top, height) = bands[cells[cell].layer];
            if at == 0 {
                points.push((x(cell), middle(cell) + half));
            } else if at + 1 == chain.len() {
                points.push((x(cell), middle(cell) - half));
            } else {
                points.extend([(x(cell), top), (x(cell), top + height)]);
            }
        }
        points
    });
    Layout {
        width,
        height: (y - GAP_Y).max(0.0),
        nodes: (0..nodes).map(|node| (x(node), middle(node))).collect(),
        edges: edges.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two nodes touch, and every edge goes down.
    fn check(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Layout {
        let laid = layout(sizes, edges);
        for (a, (ax, ay)) in laid.nodes.iter().enumerate() {
            assert!(ax - sizes[a].0 / 2.0 >= -0.01 && ax + sizes[a].0 / 2.0 <= laid.width + 0.01);
            assert!(ay - sizes[a].1 / 2.0 >= -0.01 && ay + sizes[a].1 / 2.0 <= laid.height + 0.01);
            for (b, (bx, by)) in laid.nodes.iter().enumerate().skip(a + 1) {
                let apart_x = (ax - bx).abs() + 0.01 >= (sizes[a].0 + sizes[b].0) / 2.0;
                let apart_y = (ay - by).abs() + 0.01 >= (sizes[a].1 + sizes[b].1) / 2.0;
                assert!(apart_x || apart_y, "{a} and {b}");
            }
        }
        for points in &laid.edges {
            assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{points:?}");
        }
        laid
    }

    #[test]
    fn nodes_never_touch_and_edges_go_down() {
        assert_eq!(check(&[], &[]).nodes, []);
        check(&[(80.0, 30.0)], &[]);
        // A diamond with a long edge beside it, and one that stands alone.
        let sizes = [
            (80.0, 30.0),
            (300.0, 60.0),
            (40.0, 30.0),
            (80.0, 30.0),
            (90.0, 20.0),
        ];
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)];
        let laid = check(&sizes, &edges);
        assert_eq!(laid.edges[4].len(), 4, "one bend");
        // Steps that each need all before them.
        let sizes = vec![(100.0, 30.0); 30];
        let edges: Vec<_> = (0..30)
            .flat_map(|to| (0..to).map(move |from| (from, to)))
            .collect();
        check(&sizes, &edges);
    }

    #[test]
    fn what_would_be_too_many_bends_goes_straight() {
        let sizes = vec![(100.0, 30.0); 120];
        let edges: Vec<_> = (0..120)
            .flat_map(|to| (0..to).map(move |from| (from, to)))
            .collect();
        assert!(check(&sizes, &edges).edges.iter().all(|points| points.len() == 2));
    }

    #[test]
    fn two_that_cross_are_put_the_other_way_round() {
        let sizes = vec![(50.0, 20.0); 4];
        let laid = check(&sizes, &[(0, 3), (1, 2)]);
        let side = |a: usize, b: usize| laid.nodes[a].0 < laid.nodes[b].0;
        assert_eq!(side(0, 1), side(3, 2));
    }
}
