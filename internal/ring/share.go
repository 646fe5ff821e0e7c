package ring

import (
	"cmp"
	"math/big"
	"slices"
)

// shares are the fair shares of the members, as fractions of a partition: in
// proportion to the weights, but no node above nodeCap and no zone above
// zoneCap; what these cut off goes to the others. They add up to the ring.
func (p *plan) shares() []*big.Rat {
	share := make([]*big.Rat, len(p.members))
	full := make([]bool, len(p.zones))
	for {
		var free []int
		rest := p.size
		for m := range p.members {
			if !full[p.zone[m]] {
				free = append(free, m)
			}
		}
		for _, f := range full {
			if f {
				rest -= p.zoneCap
			}
		}
		p.fill(free, rest, share)
		if !p.fillZones(full, share) {
			return share
		}
	}
}

// fillZones gives each zone whose members' shares exceed the cap exactly the
// cap, marks it as full, and reports whether there was one.
func (p *plan) fillZones(full []bool, share []*big.Rat) bool {
	limit := big.NewRat(int64(p.zoneCap), 1)
	byZone := make([]*big.Rat, len(p.zones))
	inZone := make([][]int, len(p.zones))
	for m, z := range p.zone {
		if byZone[z] == nil {
			byZone[z] = new(big.Rat)
		}
		byZone[z].Add(byZone[z], share[m])
		inZone[z] = append(inZone[z], m)
	}
	again := false
	for z, total := range byZone {
		if !full[z] && total.Cmp(limit) > 0 {
			p.fill(inZone[z], p.zoneCap, share)
			full[z], again = true, true
		}
	}
	return again
}

// fill shares total among the given members, none above nodeCap.
func (p *plan) fill(members []int, total int, share []*big.Rat) {
	limit := big.NewRat(int64(p.nodeCap), 1)
	for len(members) > 0 {
		weights := int64(0)
		for _, m := range members {
			weights += p.weight(m)
		}
		var free []int
		rest := total
		for _, m := range members {
			share[m] = big.NewRat(int64(total)*p.weight(m), weights)
			if share[m].Cmp(limit) > 0 {
				share[m] = limit
				rest -= p.nodeCap
				continue
			}
			free = append(free, m)
		}
		if rest == total {
			return
		}
		members, total = free, rest
	}
}

// counts rounds the shares up or down, first those of zones, then within each
// zone those of its nodes, so that no cap is passed. Who owns more so far is
// rounded up first.
func (p *plan) counts(share []*big.Rat) []int {
	byZone := make([]*big.Rat, len(p.zones))
	inZone := make([][]int, len(p.zones))
	keeps := make([]int, len(p.zones))
	for m, z := range p.zone {
		if byZone[z] == nil {
			byZone[z] = new(big.Rat)
		}
		byZone[z].Add(byZone[z], share[m])
		inZone[z] = append(inZone[z], m)
		keeps[z] += min(p.had[m], floor(share[m])+1)
	}
	for z := range keeps {
		keeps[z] -= floor(byZone[z])
	}
	count := make([]int, len(p.members))
	for z, total := range round(byZone, p.size, keeps) {
		var parts []*big.Rat
		var keeps []int
		for _, m := range inZone[z] {
			parts = append(parts, share[m])
			keeps = append(keeps, p.had[m]-floor(share[m]))
		}
		for i, n := range round(parts, total, keeps) {
			count[inZone[z][i]] = n
		}
	}
	return count
}

// round rounds each part up or down so that they add up to total. Those that
// gain (gain above 0) are rounded up first, then those with the larger
// fraction.
func round(parts []*big.Rat, total int, gain []int) []int {
	whole := make([]int, len(parts))
	fraction := make([]*big.Rat, len(parts))
	var up []int
	for i, part := range parts {
		whole[i] = floor(part)
		fraction[i] = new(big.Rat).Sub(part, big.NewRat(int64(whole[i]), 1))
		if fraction[i].Sign() > 0 {
			up = append(up, i)
		}
	}
	slices.SortStableFunc(up, func(a, b int) int {
		return cmp.Or(cmp.Compare(min(1, max(0, gain[b])), min(1, max(0, gain[a]))), fraction[b].Cmp(fraction[a]))
	})
	for _, i := range up[:total-sum(whole)] {
		whole[i]++
	}
	return whole
}

// floor is the whole part of a share.
func floor(r *big.Rat) int {
	return int(new(big.Int).Quo(r.Num(), r.Denom()).Int64())
}
