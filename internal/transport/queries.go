package transport

import (
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// query appends what a message that asks for many keys at once carries.
func (e *encoder) query(m vnode.Message) {
	switch m := m.(type) {
	case *vnode.Query:
		e.u16(uint16(m.Home))
		e.bucket(m.Bucket)
		e.string("Field", m.Field, kv.MaxIndexField)
		e.string("Start", m.Start, kv.MaxKey)
		e.string("End", m.End, kv.MaxKey)
		e.string("Regex", m.Regex, kv.MaxTermRegex)
		e.string("AfterTerm", m.AfterTerm, kv.MaxKey)
		e.string("AfterKey", m.AfterKey, kv.MaxKey)
		e.count("Limit", m.Limit)
		e.varint(m.At)
		e.bool(m.Latest)
	case *vnode.Buckets:
		e.u16(uint16(m.Home))
		e.string("Type", m.Type, kv.MaxType)
		e.string("After", m.After, kv.MaxBucket)
		e.string("Inside", m.Inside, kv.MaxKey)
		e.count("Limit", m.Limit)
		e.varint(m.At)
	default:
		e.topology(m)
	}
}

// query takes what query has appended.
func (d *decoder) query(k kind) vnode.Message {
	switch k {
	case kindQuery:
		return &vnode.Query{
			Home: d.partition(), Bucket: d.bucket(), Field: d.string("Field", kv.MaxIndexField),
			Start: d.string("Start", kv.MaxKey), End: d.string("End", kv.MaxKey), Regex: d.string("Regex", kv.MaxTermRegex),
			AfterTerm: d.string("AfterTerm", kv.MaxKey), AfterKey: d.string("AfterKey", kv.MaxKey),
			Limit: d.count("Limit"), At: d.varint(), Latest: d.bool(),
		}
	case kindBuckets:
		return &vnode.Buckets{
			Home: d.partition(), Type: d.string("Type", kv.MaxType), After: d.string("After", kv.MaxBucket), Inside: d.string("Inside", kv.MaxKey),
			Limit: d.count("Limit"), At: d.varint(),
		}
	}
	return d.topology(k)
}

// matches appends each match; a term that is that of the match before is not
// repeated.
func (e *encoder) matches(all []kv.IndexMatch) {
	e.items("matches", len(all), maxKeys)
	last := ""
	for i := range all {
		same := all[i].Term == last
		e.bool(same)
		if !same {
			e.string("term", all[i].Term, kv.MaxKey)
		}
		last = all[i].Term
		e.string("key", all[i].Key, kv.MaxKey)
	}
}

func (d *decoder) matches() []kv.IndexMatch {
	const least = 1 + 1 // bytes of a match: that its term is the same, and the length of its key
	n := d.items("matches", least, maxKeys)
	if n == 0 {
		return nil
	}
	all := make([]kv.IndexMatch, n)
	last := ""
	for i := range all {
		if !d.bool() {
			was := last
			if last = d.string("term", kv.MaxKey); last == was {
				d.fail("the term of a match is repeated")
			}
		}
		all[i] = kv.IndexMatch{Term: last, Key: d.string("key", kv.MaxKey)}
	}
	return all
}

func (e *encoder) foundBuckets(all []vnode.FoundBucket) {
	e.items("buckets", len(all), maxKeys)
	for i := range all {
		e.string("bucket", all[i].Name, kv.MaxBucket)
		e.bool(all[i].Latest)
	}
}

func (d *decoder) foundBuckets() []vnode.FoundBucket {
	const least = 1 + 1 // bytes of a bucket: the length of its name, and a flag
	n := d.items("buckets", least, maxKeys)
	if n == 0 {
		return nil
	}
	all := make([]vnode.FoundBucket, n)
	for i := range all {
		all[i] = vnode.FoundBucket{Name: d.string("bucket", kv.MaxBucket), Latest: d.bool()}
	}
	return all
}
