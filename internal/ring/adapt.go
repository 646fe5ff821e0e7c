package ring

import "slices"

// adapted is the arrangement so far, in which nodes that own less than they
// should are given what others own too much or have left behind.
func (p *plan) adapted() []int {
	b := p.board(slices.Clone(p.old))
	lack := make([]int, len(p.members)) // by member, what it is to be given; below 0: to give away
	for m := range p.members {
		lack[m] = p.count[m] - p.had[m]
	}
	b.bequeath(lack)
	from := 0
	b.effort = 4 * effort
	for m := range lack {
		for lack[m] > 0 {
			i := b.takeable(m, from, lack)
			lack[b.owner[i]]++
			lack[m]--
			b.owner[i] = m
			from = (i + p.target) % p.size
		}
	}
	return b.owner
}

// bequeath gives each partition without an owner to a member that lacks some:
// to one to which it costs nothing if possible, for which others that have been
// given before may go on to another heir.
func (b *board) bequeath(lack []int) {
	b.effort = effort
	given := make([][]int, len(lack)) // by member, what it has been given
	var rest []int
	for i, m := range b.owner {
		if m != nobody {
			continue
		}
		heir, cost := b.heir(i, lack)
		if cost > 0 {
			rest = append(rest, i)
			continue
		}
		b.owner[i] = heir
		lack[heir]--
		given[heir] = append(given[heir], i)
	}
	for _, i := range rest {
		if b.passOn(i, given, lack) {
			continue
		}
		heir, _ := b.heir(i, lack)
		b.owner[i] = heir
		lack[heir]--
	}
}

// heir is the member that lacks some and costs least at this partition, and
// among equals lacks most.
func (b *board) heir(i int, lack []int) (heir int, least int64) {
	heir = nobody
	for m, n := range lack {
		if n <= 0 {
			continue
		}
		cost := b.at(i, m)
		if heir == nobody || cost < least || cost == least && n > lack[heir] {
			heir, least = m, cost
		}
	}
	return heir, least
}

// passOn finds the shortest chain of heirs without cost: the first gets
// partition i, and each but the last, who lacks some, gives up for it one that
// it has been given.
//
//	i → a, which passes p on → b, which passes q on → c lacks some
func (b *board) passOn(i int, given [][]int, lack []int) bool {
	through := make([]int, len(lack)) // by member, the partition that it would get
	for m := range through {
		through[m] = nobody
	}
	var chain []int // the members that have been reached
	reach := func(i int) (last int, found bool) {
		for m := range lack {
			if through[m] != nobody || b.owner[i] == m || b.effort == 0 {
				continue
			}
			b.effort--
			if b.at(i, m) > 0 {
				continue
			}
			through[m] = i
			if lack[m] > 0 {
				return m, true
			}
			chain = append(chain, m)
		}
		return nobody, false
	}
	last, found := reach(i)
	for len(chain) > 0 && !found {
		m := chain[0]
		chain = chain[1:]
		for _, passed := range given[m] {
			if last, found = reach(passed); found {
				break
			}
		}
	}
	if found {
		lack[last]--
		b.hand(i, last, through, given)
	}
	return found
}

// hand gives the last member of a chain the partition that it gets, and so on
// back to the first, which gets partition i.
func (b *board) hand(i, last int, through []int, given [][]int) {
	for m := last; ; {
		passed := through[m]
		from := b.owner[passed]
		b.owner[passed] = m
		given[m] = append(given[m], passed)
		if passed == i {
			return
		}
		at := slices.Index(given[from], passed)
		given[from] = slices.Delete(given[from], at, at+1)
		m = from
	}
}

// takeable finds a partition for member m that its owner is to give away: the
// first one clockwise where m costs nothing, or else the one where it costs
// least more than the owner does.
func (b *board) takeable(m, from int, lack []int) int {
	best, least := -1, int64(0)
	for step := range b.owner {
		i := (from + step) & (b.size - 1)
		if lack[b.owner[i]] >= 0 {
			continue
		}
		if b.effort == 0 && best >= 0 {
			break
		}
		b.effort = max(0, b.effort-1)
		cost := b.at(i, m)
		if cost == 0 {
			return i
		}
		cost -= b.at(i, b.owner[i])
		if best < 0 || cost < least {
			best, least = i, cost
		}
	}
	return best
}
