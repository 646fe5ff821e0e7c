package ring

import (
	"cmp"
	"slices"
)

// layout puts count[i] occurrences of each i on a circle, as far apart from
// each other as can be: any two of the same are at least size/max(count) apart.
//
// The circle is cut into max(count) rows of equal length, give or take one,
// which are written below each other, the longer ones first. The table is
// filled column by column, the most frequent first:
//
//	count 3 3 2 2      0 1 2 3      read row by row:
//	               →   0 1 2    →   0 1 2 3 0 1 2 0 1 3
//	                   0 1 3
//
// Two of the same are then never in one row, and in rows that follow each other
// the later one is not further left, except across the wrap, where it is one
// column further right.
func layout(count []int) []int {
	order := make([]int, len(count))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(count[b], count[a]) })

	size, rows := sum(count), slices.Max(count)
	circle := make([]int, size)
	if size == 0 {
		return circle
	}
	short, longer := size/rows, size%rows
	next, left := 0, count[order[0]]
	for col := range short + 1 {
		height := rows
		if col == short {
			height = longer
		}
		for row := range height {
			for left == 0 {
				next++
				left = count[order[next]]
			}
			circle[row*short+min(row, longer)+col] = order[next]
			left--
		}
	}
	return circle
}

// flat lays the nodes out without regard to zones.
func (p *plan) flat() []int { return layout(p.count) }

// zoned lays the zones out, and then the nodes of each zone on its places.
func (p *plan) zoned() []int {
	inZone := make([][]int, len(p.zones)) // by zone, its members
	counts := make([][]int, len(p.zones)) // by zone, what each of them is to own
	totals := make([]int, len(p.zones))
	for m, z := range p.zone {
		inZone[z] = append(inZone[z], m)
		counts[z] = append(counts[z], p.count[m])
		totals[z] += p.count[m]
	}
	places := make([][]int, len(p.zones)) // by zone, its members in the order of their places
	for z := range places {
		for _, i := range layout(counts[z]) {
			places[z] = append(places[z], inZone[z][i])
		}
	}
	owner := layout(totals)
	for i, z := range owner {
		owner[i] = places[z][0]
		places[z] = places[z][1:]
	}
	return owner
}
