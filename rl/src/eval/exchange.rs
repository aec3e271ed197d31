//! Which picture stands in the place of which where pictures are exchanged for those of other items.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use rlvr_policies::ImageKey;

use crate::random;

const SHUFFLE_STREAM: u64 = 0x7069_6374;

const SAME: &str = "its pictures are all the same";
const BOUND: &str = "its pictures cannot be exchanged: too many of them stand in items together, and none may be given to its own item";

/// Pictures that are exchanged among themselves, by the number that their order is drawn with.
type Classes = Vec<(usize, Vec<usize>)>;

/// For each picture another one, each once, that stands in none of the items that it stands in; `items` are the pictures of
/// each. Pictures of as many tokens are exchanged among themselves. One that is alone with its number of tokens is exchanged
/// with others that are, and where there is none, within those of the nearest number; so are those that cannot be exchanged
/// among themselves. Pictures with the same key are one.
///
/// # Errors
/// Why there is no such exchange.
pub(super) fn exchanged_for(
    pictures: &[(ImageKey, usize)],
    items: &[Vec<usize>],
    seed: u64,
) -> Result<Vec<usize>, &'static str> {
    // The first place of each key; the choice depends on the keys, not on the order of the items.
    let mut first: BTreeMap<ImageKey, usize> = BTreeMap::new();
    for (i, (key, _)) in pictures.iter().enumerate() {
        first.entry(*key).or_insert(i);
    }
    if first.len() < 2 {
        return Err(SAME);
    }
    let mut together: HashSet<(ImageKey, ImageKey)> = HashSet::new();
    for item in items {
        for a in item {
            together.extend(item.iter().map(|b| (pictures[*a].0, pictures[*b].0)));
        }
    }
    let may = |a: usize, b: usize| {
        let (a, b) = (pictures[a].0, pictures[b].0);
        a != b && !together.contains(&(a, b))
    };
    let mut classes = by_tokens(pictures, first.values());
    let mut done: Classes = Vec::new();
    let mut other: HashMap<ImageKey, usize> = HashMap::new();
    while let Some((number, class)) = classes.pop() {
        let key = [seed, SHUFFLE_STREAM, number as u64];
        let len = class.len() as u64;
        let order: Vec<usize> = (0..len).map(|i| class[random::shuffled(i, len, &key) as usize]).collect();
        if let Some(found) = matching(&order, &may) {
            other.extend(order.iter().zip(found).map(|(from, to)| (pictures[*from].0, to)));
            done.push((number, class));
            continue;
        }
        // Its pictures join those of the nearest number of tokens, which are exchanged anew.
        let tokens = |class: &[usize]| class.iter().map(|i| pictures[*i].1).collect::<BTreeSet<usize>>();
        let own = tokens(&class);
        let distance = |(_, class): &(usize, Vec<usize>)| {
            let theirs = tokens(class);
            own.iter().flat_map(|a| theirs.iter().map(|b| a.abs_diff(*b))).min()
        };
        classes.append(&mut done);
        let nearest = (0..classes.len()).min_by_key(|i| (distance(&classes[*i]), classes[*i].0));
        let (_, joined) = &mut classes[nearest.ok_or(BOUND)?];
        joined.extend(class);
        joined.sort_unstable_by_key(|i| pictures[*i].0);
    }
    pictures.iter().map(|(key, _)| other.get(key).copied().ok_or(BOUND)).collect()
}

/// Different pictures by their number of tokens.
fn by_tokens<'a>(pictures: &[(ImageKey, usize)], different: impl Iterator<Item = &'a usize>) -> Classes {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in different {
        classes.entry(pictures[*i].1).or_default().push(*i);
    }
    let alone: Vec<usize> = classes.values().filter(|c| c.len() == 1).map(|c| c[0]).collect();
    classes.retain(|_, class| class.len() > 1);
    match &alone[..] {
        [] => {}
        [one] => {
            let tokens = pictures[*one].1;
            let nearest = classes.iter_mut().min_by_key(|(count, _)| count.abs_diff(tokens));
            nearest.into_iter().for_each(|(_, class)| class.push(*one));
        }
        // Under a number that no picture has.
        several => drop(classes.insert(usize::MAX, several.to_vec())),
    }
    classes.into_iter().collect()
}

/// For each picture of an order another of it, each once, that it `may` be exchanged for; none where there is no such
/// exchange. Each takes the place of the one before; where that may not be, others give way along the shortest chain.
fn matching(order: &[usize], may: &dyn Fn(usize, usize) -> bool) -> Option<Vec<usize>> {
    let len = order.len();
    // Who is in each place.
    let mut taken: Vec<Option<usize>> = vec![None; len];
    let mut free = Vec::new();
    for i in 0..len {
        let next = (i + 1) % len;
        if may(order[i], order[next]) { taken[next] = Some(i) } else { free.push(i) }
    }
    for start in free {
        let mut from: Vec<Option<usize>> = vec![None; len];
        let mut waiting = VecDeque::from([start]);
        let end = 'search: loop {
            let i = waiting.pop_front()?;
            for to in (1..=len).map(|step| (i + step) % len) {
                if from[to].is_some() || !may(order[i], order[to]) {
                    continue;
                }
                from[to] = Some(i);
                match taken[to] {
                    None => break 'search to,
                    Some(owner) => waiting.push_back(owner),
                }
            }
        };
        // Everybody on the chain moves on, back to the one that had no place.
        let mut place = Some(end);
        while let Some(to) = place {
            let mover = from[to]?;
            let left = taken.iter().position(|who| *who == Some(mover));
            if let Some(left) = left {
                taken[left] = None;
            }
            taken[to] = Some(mover);
            place = left;
        }
    }
    let mut found = vec![0; len];
    for (to, who) in taken.iter().enumerate() {
        found[(*who)?] = order[to];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derangement_moves_every_picture_among_those_of_as_many_tokens() {
        for seed in 0..200 {
            let classes = [4, 4, 4, 9, 9, 16, 16, 16, 16, 4];
            let pictures: Vec<(ImageKey, usize)> =
                classes.iter().enumerate().map(|(i, tokens)| (i as ImageKey * 7 + 1, *tokens)).collect();
            let order = exchanged_for(&pictures, &[], seed).unwrap();
            let mut once = order.clone();
            once.sort_unstable();
            assert_eq!(once, (0..10).collect::<Vec<_>>(), "each once");
            for (i, other) in order.iter().enumerate() {
                assert!(i != *other && pictures[i].1 == pictures[*other].1, "{seed}: {order:?}");
            }
            assert_eq!(exchanged_for(&pictures, &[], seed).unwrap(), order);
        }
        let pictures: Vec<(ImageKey, usize)> = (0..8).map(|i| (i, 4)).collect();
        let orders: Vec<_> = (0..20).map(|seed| exchanged_for(&pictures, &[], seed).unwrap()).collect();
        assert!(orders.iter().any(|order| *order != orders[0]), "the seed counts");
    }

    #[test]
    fn pictures_without_a_partner_find_one_and_equal_ones_are_one() {
        // One alone goes to the nearest number of tokens.
        let order = exchanged_for(&[(1, 4), (2, 4), (3, 100), (4, 100), (5, 90)], &[], 1).unwrap();
        assert!(order[4] == 2 || order[4] == 3, "{order:?}");
        assert!(order[0] == 1 && order[1] == 0, "{order:?}");
        // Several alone are exchanged among themselves.
        assert_eq!(exchanged_for(&[(1, 4), (2, 5)], &[], 3).unwrap(), [1, 0]);
        // The same picture under two names is never exchanged for itself.
        for seed in 0..50 {
            let pictures = [(7, 4), (7, 4), (8, 4), (9, 4)];
            let order = exchanged_for(&pictures, &[], seed).unwrap();
            assert!(order.iter().zip(&pictures).all(|(o, (key, _))| pictures[*o].0 != *key), "{order:?}");
            assert_eq!(order[0], order[1]);
        }
        assert_eq!(exchanged_for(&[(7, 4), (7, 4)], &[], 0), Err(SAME));
        assert_eq!(exchanged_for(&[], &[], 0), Err(SAME));
    }

    #[test]
    fn no_picture_is_exchanged_for_one_of_its_own_items() {
        // Pairs, and a triple that shares a picture with the first pair.
        let items = [vec![0, 1], vec![2, 3], vec![4, 5], vec![6, 7], vec![1, 8, 9]];
        let pictures: Vec<(ImageKey, usize)> = (0..10).map(|i| (i * 13 % 10, 4)).collect();
        for seed in 0..200 {
            let order = exchanged_for(&pictures, &items, seed).unwrap();
            let mut once = order.clone();
            once.sort_unstable();
            assert_eq!(once, (0..10).collect::<Vec<_>>(), "each once");
            for item in &items {
                assert!(item.iter().all(|i| !item.contains(&order[*i])), "{seed}: {order:?}");
            }
            // Neither the order of the items nor that of the pictures matters.
            let reversed: Vec<_> = pictures.iter().rev().copied().collect();
            let theirs: Vec<Vec<usize>> =
                items.iter().rev().map(|item| item.iter().map(|i| 9 - i).collect()).collect();
            let again = exchanged_for(&reversed, &theirs, seed).unwrap();
            assert!((0..10).all(|i| 9 - again[9 - i] == order[i]), "{seed}");
        }
    }

    #[test]
    fn pictures_that_stand_together_are_exchanged_with_the_nearest_or_refused() {
        // The only two of 4 tokens stand in one item: they go with those of 6, and those of 50 stay among themselves.
        let pictures = [(1, 4), (2, 4), (3, 6), (4, 6), (5, 50), (6, 50)];
        let items = [vec![0, 1], vec![2], vec![3], vec![4], vec![5]];
        for seed in 0..20 {
            let order = exchanged_for(&pictures, &items, seed).unwrap();
            assert!(order[0] >= 2 && order[1] >= 2, "{order:?}");
            assert_eq!(order[4..], [5, 4]);
        }
        // Three of an item cannot be given to the two others.
        let refused = exchanged_for(&pictures[..5], &[vec![0, 1, 2], vec![3], vec![4]], 0);
        assert_eq!(refused, Err(BOUND));
        assert_eq!(exchanged_for(&pictures[..2], &[vec![0, 1]], 0), Err(BOUND));
    }
}
