package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// Tally counts which places of a home have taken what is restored.
type Tally struct {
	places []ring.Place
	failed []string // why not, of each; empty: it has, once it has answered
	heard  []bool
}

// NewTally counts for these places.
func NewTally(places []ring.Place) *Tally {
	return &Tally{places: places, failed: make([]string, len(places)), heard: make([]bool, len(places))}
}

// Add says what has become of it at a place: an empty why is that all of it is there,
// durably.
func (t *Tally) Add(place int, why string) { t.heard[place], t.failed[place] = true, why }

// Behind reports whether a place has not taken all.
func (t *Tally) Behind() bool {
	return slices.ContainsFunc(t.failed, func(s string) bool { return s != "" })
}

// Err is nil if a majority of the places by the owners now has taken all, and one of
// those by the next owners.
func (t *Tally) Err() error {
	for _, of := range []func(ring.Place) bool{func(p ring.Place) bool { return p.Now }, func(p ring.Place) bool { return p.Next }} {
		all, got := 0, 0
		var why []string
		for i, p := range t.places {
			if !of(p) {
				continue
			}
			all++
			if t.heard[i] && t.failed[i] == "" {
				got++
				continue
			}
			why = append(why, fmt.Sprintf("%s/%d: %s", p.Node, p.Partition, t.failed[i]))
		}
		if need := all/2 + 1; got < need {
			return fmt.Errorf("%w: %d of %d places have taken the objects, and %d must: %s", kv.ErrQuorum, got, all, need, strings.Join(why, "; "))
		}
	}
	return nil
}

// Undelivered is why not all items of a Deliver are held; empty: they are.
func Undelivered(results []vnode.ItemResult, items []vnode.Item) string {
	if len(results) != len(items) {
		return fmt.Sprintf("it speaks of %d of %d objects", len(results), len(items))
	}
	for i, r := range results {
		if r != vnode.ItemHeld {
			return items[i].Key.String() + " was not taken"
		}
	}
	return ""
}

// Plan is what is to be done so that a cluster has the types and buckets of a backup.
type Plan struct {
	Props
	Kept []string // what the cluster has in another way than the backup

	active map[string]bool
}

// Active reports whether a type of the plan is to be activated.
func (p Plan) Active(name string) bool { return p.active[name] }

// Missing is the plan to bring p into a cluster that has these properties, and keeps so many
// replicas. The error says what cannot be; then nothing of it is to be done.
func (p Props) Missing(have Props, replicas int) (Plan, error) {
	plan := Plan{active: make(map[string]bool)}
	for _, t := range p.Types {
		i := slices.IndexFunc(have.Types, func(x Type) bool { return kv.PlainType(x.Name) == kv.PlainType(t.Name) })
		if i < 0 || untouched(have.Types[i]) {
			if len(t.Props) > 0 || i < 0 {
				t.Props = plan.capped("bucket type "+t.Name, t.Props, replicas)
				plan.Types = append(plan.Types, t)
				plan.active[t.Name] = t.Active
			}
			continue
		}
		if err := plan.keep(t, have.Types[i]); err != nil {
			return plan, err
		}
	}
	for _, b := range p.Buckets {
		i := slices.IndexFunc(have.Buckets, func(x Bucket) bool { return x.Type == b.Type && string(x.Name) == string(b.Name) })
		if i < 0 {
			b.Props = plan.capped(fmt.Sprintf("bucket %q", b.Name), b.Props, replicas)
			plan.Buckets = append(plan.Buckets, b)
			continue
		}
		if !slices.Equal(b.Props, have.Buckets[i].Props) {
			plan.Kept = append(plan.Kept, fmt.Sprintf("bucket %q has other properties than in the backup; they stay", b.Name))
		}
	}
	return plan, plan.check(have, replicas)
}

// keep looks at a type that the cluster has already. Without the same data type its objects could not
// be read as they were written; HyperLogLogs of several precisions can be merged.
func (p *Plan) keep(t, has Type) error {
	const decisive = "datatype"
	if a, b := t.Props.Lookup(decisive), has.Props.Lookup(decisive); a != b {
		return fmt.Errorf("bucket type %s has %s %q here, and %q in the backup: its objects would mean something else", t.Name, decisive, b, a)
	}
	if t.Active && !has.Active {
		return fmt.Errorf("bucket type %s is not active here: activate it, and restore again", t.Name)
	}
	if !slices.Equal(t.Props, has.Props) {
		p.Kept = append(p.Kept, fmt.Sprintf("bucket type %s has other properties than in the backup; they stay", t.Name))
	}
	return nil
}

// ofReplicas are the properties that count replicas.
var ofReplicas = []string{"n_val", "r", "pr", "w", "pw", "dw", "node_confirms"}

// capped are properties without more replicas than the cluster keeps.
func (p *Plan) capped(whose string, list kv.Properties, replicas int) kv.Properties {
	list = slices.Clone(list)
	for i, x := range list {
		n, err := strconv.Atoi(x.Value)
		if err != nil || n <= replicas || !slices.Contains(ofReplicas, x.Name) {
			continue
		}
		list[i].Value = strconv.Itoa(replicas)
		p.Kept = append(p.Kept, fmt.Sprintf("%s had %s %d, and has %d here, since the cluster keeps no more replicas", whose, x.Name, n, replicas))
	}
	return list
}

// check says what of the plan the cluster would refuse.
func (p *Plan) check(have Props, replicas int) error {
	for _, t := range p.Types {
		if _, err := kv.DefaultProps(replicas, kv.PlainType(t.Name) != "").With(t.Props); err != nil {
			return fmt.Errorf("bucket type %s: %w", t.Name, err)
		}
	}
	types := slices.Concat(p.Types, have.Types) // the plan's first: it may set the default one
	for _, b := range p.Buckets {
		base := kv.DefaultProps(replicas, kv.PlainType(b.Type) != "")
		i := slices.IndexFunc(types, func(t Type) bool { return kv.PlainType(t.Name) == kv.PlainType(b.Type) })
		var err error
		switch {
		case i >= 0:
			base, err = base.With(types[i].Props)
		case kv.PlainType(b.Type) != "":
			err = fmt.Errorf("there is no bucket type %s", b.Type)
		}
		if err == nil {
			_, err = base.With(b.Props)
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", b.Name, err)
		}
	}
	return nil
}

// untouched reports whether a type is the default one, of which nothing is set.
func untouched(t Type) bool { return kv.PlainType(t.Name) == "" && len(t.Props) == 0 }
