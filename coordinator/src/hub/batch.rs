//! Gathering items into batches: at once when there is little to do, patiently when there is much.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// A batch of at least this many items shows that more are coming.
const BUSY_ITEMS: usize = 16;

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Items.
    pub items_max: usize,
    /// Their weight in all. A single heavier item goes alone.
    pub weight_max: usize,
    /// How long a batch waits for company while there is much to do.
    pub linger: Duration,
}

/// Batches out of a channel. One batch is out at a time: whoever takes it commits it before it asks for
/// the next, so that what one sender said in an order is committed in that order, and the time that a
/// commit takes gathers the next batch by itself.
pub struct Gather<T> {
    items: mpsc::Receiver<T>,
    weigh: fn(&T) -> usize,
    bounds: Bounds,
    held: Option<T>,
    is_busy: bool,
}

impl<T> Gather<T> {
    /// Out of this channel, with these bounds.
    pub fn new(items: mpsc::Receiver<T>, weigh: fn(&T) -> usize, bounds: Bounds) -> Gather<T> {
        Gather {
            items,
            weigh,
            bounds,
            held: None,
            is_busy: false,
        }
    }

    /// The next batch, never empty; None when every sender is gone.
    pub async fn next(&mut self) -> Option<Vec<T>> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.items.recv().await?,
        };
        let mut weight = (self.weigh)(&first);
        let mut batch = vec![first];
        let until = Instant::now() + self.bounds.linger;
        while batch.len() < self.bounds.items_max && weight < self.bounds.weight_max {
            let item = match self.items.try_recv() {
                Ok(item) => item,
                Err(_) if !self.is_busy => break,
                Err(_) => match tokio::time::timeout_at(until, self.items.recv()).await {
                    Ok(Some(item)) => item,
                    Ok(None) | Err(_) => break,
                },
            };
            weight += (self.weigh)(&item);
            if weight > self.bounds.weight_max {
                self.held = Some(item);
                break;
            }
            batch.push(item);
        }
        self.is_busy = batch.len() >= BUSY_ITEMS;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(items: &[usize], bounds: Bounds) -> Gather<usize> {
        let (tx, rx) = mpsc::channel(1_000);
        for item in items {
            tx.try_send(*item).unwrap();
        }
        Gather::new(rx, |item| *item, bounds)
    }

    const BOUNDS: Bounds = Bounds {
        items_max: 3,
        weight_max: 10,
        linger: Duration::from_secs(3600),
    };

    #[tokio::test]
    async fn what_is_there_goes_at_once() {
        let mut gather = gather(&[1, 1], BOUNDS);
        assert_eq!(gather.next().await, Some(vec![1, 1]));
        assert_eq!(gather.next().await, None);
    }

    #[tokio::test]
    async fn bounds_hold_and_nothing_is_lost() {
        let mut gather = gather(&[1, 1, 1, 4, 4, 4, 50, 1], BOUNDS);
        assert_eq!(gather.next().await, Some(vec![1, 1, 1]));
        assert_eq!(gather.next().await, Some(vec![4, 4]));
        assert_eq!(gather.next().await, Some(vec![4]));
        assert_eq!(gather.next().await, Some(vec![50]));
        assert_eq!(gather.next().await, Some(vec![1]));
        assert_eq!(gather.next().await, None);
    }

    #[tokio::test]
    async fn a_busy_channel_is_waited_for() {
        let (tx, rx) = mpsc::channel(1_000);
        let bounds = Bounds {
            items_max: BUSY_ITEMS,
            weight_max: usize::MAX,
            ..BOUNDS
        };
        let mut gather = Gather::new(rx, |_| 1, bounds);
        for n in 0..=BUSY_ITEMS {
            tx.try_send(n).unwrap();
        }
        assert_eq!(gather.next().await.unwrap().len(), BUSY_ITEMS);
        let late = tokio::spawn(async move {
            for n in 0..BUSY_ITEMS {
                tx.send(n).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(
            gather.next().await.unwrap().len(),
            BUSY_ITEMS,
            "the batch waited for company"
        );
        late.await.unwrap();
    }
}
