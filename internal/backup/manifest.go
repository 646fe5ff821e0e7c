package backup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// manifestVersion is that of the format that this package writes and reads.
const manifestVersion = 1

// maxPartitions is the size of the largest ring.
const maxPartitions = 1 << 16

// Manifest says what a backup is of, and what is in it. Nothing in it is secret.
type Manifest struct {
	ID     string    `json:"id"`
	Parent string    `json:"parent,omitempty"` // the backup that it was compared with; it does not need that
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Made   string    `json:"made_by"` // version of the program

	Info
	Homes []Home `json:"homes"`

	Objects    int64 `json:"objects"`
	Bytes      int64 `json:"bytes"`       // of all its chunks, before compression
	NewObjects int64 `json:"new_objects"` // that were read for it; the others were taken over
	NewBytes   int64 `json:"new_bytes"`
	Whole      bool  `json:"whole"` // of each home enough was read (see Enough), and each object
}

// Info is what a backup has of the cluster itself.
type Info struct {
	Cluster    string   `json:"cluster"`
	Epoch      uint64   `json:"epoch"`
	Partitions int      `json:"partitions"`
	Replicas   int      `json:"replicas"`
	Members    []string `json:"members"`
	Props
}

// Props are the bucket types and the buckets that have properties of their own.
type Props struct {
	Types   []Type   `json:"types"`
	Buckets []Bucket `json:"buckets"`
}

// Type is a bucket type, with what is set of it.
type Type struct {
	Name   string        `json:"name"`
	Active bool          `json:"active"`
	Props  kv.Properties `json:"props"`
}

// Bucket is a bucket with properties of its own.
type Bucket struct {
	Type  string        `json:"type,omitempty"`
	Name  []byte        `json:"bucket"` // base64: it may be any bytes
	Props kv.Properties `json:"props"`
}

// Home is one home of the ring.
type Home struct {
	Home       int      `json:"home"`
	Read       bool     `json:"whole"` // see Head.Whole
	Replicas   []string `json:"replicas"`
	Missing    []string `json:"missing,omitempty"`
	Bad        int      `json:"bad,omitempty"`
	Unreadable []string `json:"unreadable,omitempty"` // the first of the bad ones
	Ranges     []Range  `json:"ranges"`
}

// Sum is the sum of some branches of a hash tree, as 16 digits in JSON, where numbers
// have only 53 bits.
type Sum uint64

// MarshalText writes the digits.
func (s Sum) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(s)), nil }

// UnmarshalText reads them.
func (s *Sum) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || len(b) != 16 {
		return fmt.Errorf("a sum is 16 hexadecimal digits, and not %q", b)
	}
	*s = Sum(n)
	return nil
}

// Total counts what the homes hold.
func (m *Manifest) Total() {
	m.Objects, m.Bytes, m.Whole = 0, 0, true
	for _, h := range m.Homes {
		m.Whole = m.Whole && h.Read && h.Bad == 0
		for _, r := range h.Ranges {
			for _, c := range r.Chunks {
				m.Objects += int64(c.Objects)
				m.Bytes += int64(c.Bytes)
			}
		}
	}
}

// Encode writes a manifest: two lines with the version and the hash of what follows, and
// JSON.
func (m *Manifest) Encode() ([]byte, error) {
	body, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	return append(fmt.Appendf(nil, "tanodb-backup %d\nsha256 %s\n", manifestVersion, NameOf(body)), body...), nil
}

// DecodeManifest reads what Encode has written, and checks all of it. Errors wrap
// ErrCorrupt or ErrVersion.
func DecodeManifest(b []byte) (*Manifest, error) {
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	version, ok := strings.CutPrefix(string(first), "tanodb-backup ")
	if !ok {
		return nil, corrupt("it does not begin as a manifest does")
	}
	if v, err := strconv.Atoi(version); err != nil {
		return nil, corrupt("its version is %q", version)
	} else if v != manifestVersion {
		return nil, corruptVersion("manifest", v, manifestVersion)
	}
	second, body, _ := bytes.Cut(rest, []byte("\n"))
	if want := "sha256 " + NameOf(body); string(second) != want {
		return nil, corrupt("its hash is not that of its contents")
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, corrupt("%v", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

func corruptVersion(what string, has, want int) error {
	return fmt.Errorf("%w: a %s of version %d, and this program reads version %d; use the program that wrote it, or a later one", ErrVersion, what, has, want)
}

var (
	idForm   = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9a-f]{8}$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ValidID reports whether a backup may have this id.
func ValidID(id string) bool { return idForm.MatchString(id) }

// NewID is the id of a backup that begins now; chance tells it from others of the same
// moment. Ids are in the order of time.
func NewID(now time.Time, chance uint32) string {
	return fmt.Sprintf("%s-%08x", now.UTC().Format("20060102T150405.000Z"), chance)
}

func (m *Manifest) check() error {
	if !ValidID(m.ID) {
		return corrupt("its id is %q", m.ID)
	}
	if m.Partitions < 1 || m.Partitions > maxPartitions || bits.OnesCount(uint(m.Partitions)) != 1 {
		return corrupt("its ring has %d partitions", m.Partitions)
	}
	if len(m.Homes) != m.Partitions {
		return corrupt("it has %d homes, and its ring %d", len(m.Homes), m.Partitions)
	}
	for i := range m.Homes {
		if err := m.Homes[i].check(i); err != nil {
			return err
		}
	}
	had := *m
	if m.Total(); had.Objects != m.Objects || had.Bytes != m.Bytes || had.Whole != m.Whole {
		return corrupt("what it says of all homes is not what it says of each")
	}
	return nil
}

func (h *Home) check(i int) error {
	if h.Home != i {
		return corrupt("home %d stands where home %d should", h.Home, i)
	}
	if err := covers(h.Ranges); err != nil {
		return corrupt("home %d: %v", i, err)
	}
	for _, r := range h.Ranges {
		for _, c := range r.Chunks {
			if !hashForm.MatchString(c.SHA256) || c.Objects < 1 || c.Bytes < len(chunkMagic)+1 || c.Bytes > MaxChunk {
				return corrupt("home %d has a chunk %q of %d objects and %d bytes", i, c.SHA256, c.Objects, c.Bytes)
			}
		}
	}
	return nil
}

// Checker checks the records of a range against the manifest, and a ring of its size.
type Checker struct {
	r    Range
	home func(kv.Key) int
	want int
	sum  uint64
}

// NewChecker checks a range of a home. HomeOf is the home of a key in the ring of the
// manifest.
func NewChecker(home int, r Range, homeOf func(kv.Key) int) *Checker {
	return &Checker{r: r, home: homeOf, want: home}
}

// Add checks a record.
func (c *Checker) Add(r Record) error {
	branch, term := r.Term()
	if home := c.home(r.Key); home != c.want {
		return corrupt("%s is of home %d, and is in home %d", r.Key, home, c.want)
	}
	if branch < c.r.From || branch >= c.r.To {
		return corrupt("%s is of branch %d, and is in branches %d to %d", r.Key, branch, c.r.From, c.r.To-1)
	}
	c.sum ^= term
	return nil
}

// Done says whether all records together are what the manifest says.
func (c *Checker) Done() error {
	if Sum(c.sum) != c.r.Sum {
		return corrupt("branches %d to %d of home %d do not have the objects that the manifest says", c.r.From, c.r.To-1, c.want)
	}
	return nil
}

// Filter says which keys are meant: those of a type, of a bucket, or all.
type Filter struct {
	Type   *string // nil: all types
	Bucket *string // nil: all buckets
}

// All reports whether nothing is left out.
func (f Filter) All() bool { return f.Type == nil && f.Bucket == nil }

// Takes reports whether the keys of a bucket are meant.
func (f Filter) Takes(b kv.Bucket) bool {
	return (f.Type == nil || kv.PlainType(*f.Type) == kv.PlainType(b.Type)) && (f.Bucket == nil || *f.Bucket == b.Name)
}

// Of are the types and buckets that the keys need which are meant.
func (p Props) Of(f Filter) Props {
	out := Props{Types: []Type{}, Buckets: []Bucket{}}
	for _, t := range p.Types {
		if f.Type == nil || kv.PlainType(*f.Type) == kv.PlainType(t.Name) {
			out.Types = append(out.Types, t)
		}
	}
	for _, b := range p.Buckets {
		if f.Takes(kv.Bucket{Type: b.Type, Name: string(b.Name)}) {
			out.Buckets = append(out.Buckets, b)
		}
	}
	return out
}
