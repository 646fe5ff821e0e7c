package api

import (
	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Hot is what stands out among the keys of a node.
type Hot struct {
	Node     string    `json:"node"`
	Sample   int       `json:"sampled_one_in"` // requests, of which one is counted
	LifeMS   int64     `json:"half_life_ms"`   // of what is counted
	Rate     float64   `json:"requests_per_second"`
	Hot      []HotKey  `json:"hot"`
	Largest  []HighKey `json:"largest"`
	Siblings []HighKey `json:"siblings"`
}

// KeyName is a key.
type KeyName struct {
	Type   Text `json:"type,omitempty"` // empty: the default type
	Bucket Text `json:"bucket"`
	Key    Text `json:"key"`
}

// HotKey is a key that many ask for, with requests a second, which may be too high by the error.
type HotKey struct {
	KeyName
	Rate  float64 `json:"requests_per_second"`
	Error float64 `json:"error"`
}

// HighKey is a key with a high number of bytes, or of values.
type HighKey struct {
	KeyName
	Value int64 `json:"value"`
	AgeMS int64 `json:"seen_ago_ms"`
}

// NewHot converts what a node tells. No list is nil.
func NewHot(h tanodb.HotKeys) Hot {
	out := Hot{Node: h.Node, Sample: h.Sample, LifeMS: h.Life.Milliseconds(), Rate: h.Rate, Hot: []HotKey{}, Largest: highKeys(h.Largest), Siblings: highKeys(h.Most)}
	for _, k := range h.Hot {
		out.Hot = append(out.Hot, HotKey{keyName(k.Key), k.Rate, k.Error})
	}
	return out
}

func highKeys(ks []tanodb.HighKey) []HighKey {
	out := []HighKey{}
	for _, k := range ks {
		out = append(out, HighKey{keyName(k.Key), k.Value, k.Age.Milliseconds()})
	}
	return out
}

func keyName(k kv.Key) KeyName {
	return KeyName{Text(k.Type), Text(k.Bucket), Text(k.Name)}
}

// KV is the key.
func (k KeyName) KV() kv.Key {
	return kv.Key{Type: string(k.Type), Bucket: string(k.Bucket), Name: string(k.Key)}
}
