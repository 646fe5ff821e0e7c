package tanodb

import (
	"bytes"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/storage"
)

// The files of a node's directory; docs/formats.md draws them.
const (
	lockFile   = "LOCK"
	nodeFile   = "NODE"
	cleanFile  = "CLEAN"
	engineName = "engine"

	nodeHeader  = "tanodb-node 1"
	cleanHeader = "tanodb-clean 1"
)

// sessionKey is where the engine keeps the id of the last start, so that a
// clean shutdown's marker fits no other state of the engine.
var sessionKey = []byte{0, 's', 'e', 's', 's', 'i', 'o', 'n'}

// stampKey is where the engine keeps the stamp of the marker's file, so that no
// other file counts, whatever it says.
var stampKey = []byte{0, 's', 't', 'a', 'm', 'p'}

// markerLife is how long a marker counts. A restart takes less; an image of the
// whole disk, in which nothing tells the file from a copy, is mostly older when it is
// put back.
const markerLife = time.Hour

// fileStamp tells a file from every other one, and from copies of it: its inode,
// and when that was last changed, which nobody but the system can set. A file
// that comes out of a backup may be given the number that the first one had, but
// not the moment.
type fileStamp struct {
	inode   uint64
	changed int64 // Unix nanoseconds
}

func (s fileStamp) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.inode), uint64(s.changed))
}

// fresh reports whether the file was written a short time ago.
func (s fileStamp) fresh(now time.Time) bool {
	age := now.Sub(time.Unix(0, s.changed))
	return s.inode != 0 && age >= 0 && age <= markerLife
}

// home is the node's directory: who it is, and how it ended last. A home
// without a directory forgets.
type home struct {
	dir         string // empty: nothing on disk
	name        string
	id          string
	clusterName string // of NODE, once it is settled
	begun       bool   // the engine holds the topology of the node's cluster
	lock        io.Closer
	kept        map[string]string // what NODE says; nil: the directory is new
	session     [16]byte
}

// openHome locks the directory and finds out whose it is.
func openHome(dir string, o *Options) (*home, error) {
	h := &home{dir: dir, name: o.Name}
	if o.Storage != nil {
		h.dir = ""
	}
	if h.dir == "" && o.Storage == nil {
		return nil, errors.New("tanodb: no directory: name one, or set Options.Storage to MemoryStorage()")
	}
	if h.dir != "" {
		if err := h.openDir(); err != nil {
			return h, err
		}
	}
	if h.kept != nil {
		if o.Name != "" && o.Name != h.kept["name"] {
			return h, fmt.Errorf("tanodb: directory %s belongs to node %q, not to %q; a node keeps its name for ever", dir, h.kept["name"], o.Name)
		}
		h.name, h.id = h.kept["name"], h.kept["id"]
		h.begun = h.kept["begun"] == "yes"
		if h.kept["begun"] == left {
			return h, fmt.Errorf("%w (directory %s)", ErrLeft, dir)
		}
		if _, ok := parseID(h.id); !ok {
			return h, fmt.Errorf("tanodb: %s says that the node's id is %q, which is none; restore the file from a backup", filepath.Join(dir, nodeFile), h.id)
		}
		return h, nil
	}
	if h.name == "" && len(o.Bootstrap) > 0 {
		return h, errors.New("tanodb: a node of several needs a name: set Name to its own in the list of members")
	}
	if h.name == "" {
		h.name = defaultName
	}
	id := newID()
	h.id = hex.EncodeToString(id[:])
	return h, nil
}

// openDir makes the directory, locks it, and reads NODE.
func (h *home) openDir() (err error) {
	if err = makeDir(h.dir); err != nil {
		return fmt.Errorf("tanodb: making the directory: %w", err)
	}
	name, err := trueName(h.dir)
	if err != nil {
		return fmt.Errorf("tanodb: finding directory %s: %w", h.dir, err)
	}
	h.dir = name
	if h.lock, err = vfs.Default.Lock(filepath.Join(h.dir, lockFile)); err != nil {
		return lockError(h.dir, err)
	}
	b, err := os.ReadFile(filepath.Join(h.dir, nodeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.checkEmpty()
	}
	if err != nil {
		return fmt.Errorf("tanodb: %w", err)
	}
	if h.kept, err = parseNode(b); err != nil {
		return fmt.Errorf("tanodb: %s: %w", filepath.Join(h.dir, nodeFile), err)
	}
	return nil
}

// trueName is the path of a directory without links. The lock of a process on a file keeps out
// other processes, but not this one, which only remembers the names of what it has
// locked: so there must be one name for each. It also stays right if the process goes elsewhere.
func trueName(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// lockError says who has the directory, or why nobody can.
func lockError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("tanodb: directory %s is in use by another process; stop that process, or name another directory", dir)
	case strings.Contains(err.Error(), "lock held by current process"):
		return fmt.Errorf("tanodb: directory %s is open in this process already; close that node, or name another directory", dir)
	}
	return fmt.Errorf("tanodb: directory %s cannot be locked: %w; this process must be able to write there, and no other may have it open", dir, err)
}

// makeDir makes the directory and its missing parents, each of them durable in the
// one above: what is acknowledged in it must not go with its name when the power does.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o700) // says what is in its place, if it is none
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// checkEmpty refuses a directory that has no NODE, but other files.
func (h *home) checkEmpty() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return fmt.Errorf("tanodb: %w", err)
	}
	for _, e := range entries {
		if n := e.Name(); n != lockFile && n != nodeFile+".tmp" {
			return fmt.Errorf("tanodb: directory %s has no %s file and is not empty (it holds %q): it is not a node's directory; name another", h.dir, nodeFile, n)
		}
	}
	return nil
}

// parseNode reads a NODE file: a header line, then a name and a value a line.
func parseNode(b []byte) (map[string]string, error) {
	header, rest, _ := strings.Cut(string(b), "\n")
	if header != nodeHeader {
		if strings.HasPrefix(header, "tanodb-node ") {
			return nil, fmt.Errorf("is of format %q, and this version of TanoDB reads %q; use the version that wrote it", header, nodeHeader)
		}
		return nil, errors.New("is not a NODE file, or is damaged; restore it from a backup, or begin with an empty directory")
	}
	kept := make(map[string]string)
	for line := range strings.Lines(rest) {
		k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok {
			return nil, fmt.Errorf("is damaged: line %q has no value", line)
		}
		kept[k] = v
	}
	for _, k := range []string{"id", "name", "cluster", "partitions", "replicas"} {
		if kept[k] == "" {
			return nil, fmt.Errorf("is damaged: it says nothing of %q; restore it from a backup", k)
		}
	}
	return kept, nil
}

// settle compares the directory with the cluster that the node is to be of,
// and writes NODE into a new one.
func (h *home) settle(cluster [16]byte, partitions, replicas int) error {
	if h.dir == "" {
		return nil
	}
	h.clusterName = hex.EncodeToString(cluster[:])
	now := map[string]string{
		"partitions": strconv.Itoa(partitions),
		"replicas":   strconv.Itoa(replicas),
		"cluster":    hex.EncodeToString(cluster[:]),
	}
	if !h.begun {
		if err := h.keep(now["cluster"], now["partitions"], now["replicas"], "yes"); err != nil {
			return err
		}
		return h.dropJoin()
	}
	for _, what := range []string{"partitions", "replicas"} {
		if h.kept[what] != now[what] {
			return fmt.Errorf("tanodb: directory %s was made with %s %s, and the options say %s; that cannot be changed", h.dir, h.kept[what], what, now[what])
		}
	}
	if h.kept["cluster"] != now["cluster"] {
		return fmt.Errorf("tanodb: directory %s is of cluster %s, and its engine of cluster %s: they do not belong together", h.dir, h.kept["cluster"], now["cluster"])
	}
	return nil
}

// keep writes NODE.
func (h *home) keep(cluster, partitions, replicas, begun string) error {
	text := fmt.Sprintf("%s\nid %s\nname %s\ncluster %s\npartitions %s\nreplicas %s\nbegun %s\n",
		nodeHeader, h.id, h.name, cluster, partitions, replicas, begun)
	return h.write(nodeFile, func(*os.File) ([]byte, error) { return []byte(text), nil })
}

// left stands in NODE where "begun" is asked for, when the node has left its cluster
// in order.
const left = "left"

// markLeft makes the directory that of a node which has left its cluster.
func (h *home) markLeft() error {
	if h.dir == "" {
		return nil
	}
	return h.keep(h.clusterName, "0", "0", left)
}

// noCluster stands in NODE for the cluster of a node that is yet to join one.
const noCluster = "none"

// identify makes the node's id, and the cluster that it begins, last before there is
// anything else in the directory, and before others are told of them.
func (h *home) identify(cluster string, partitions, replicas int) error {
	if h.dir == "" || h.kept != nil && h.kept["cluster"] == cluster {
		return nil
	}
	return h.keep(cluster, strconv.Itoa(partitions), strconv.Itoa(replicas), "no")
}

// forgetCluster makes the directory one of a node that is in no cluster. The engine
// must hold nothing.
func (h *home) forgetCluster() error {
	h.begun = false
	h.kept = map[string]string{"cluster": noCluster}
	if err := h.keep(noCluster, "0", "0", "no"); err != nil {
		return err
	}
	return h.dropEngine()
}

// dropEngine removes the engine of a directory whose NODE names no cluster. It holds nothing:
// until NODE names one, nobody but the start itself has written into it.
func (h *home) dropEngine() error {
	if h.dir == "" || h.begun || h.kept["cluster"] != noCluster {
		return nil
	}
	err := os.RemoveAll(h.engineDir())
	if err == nil {
		err = syncDir(h.dir)
	}
	if err != nil {
		return fmt.Errorf("tanodb: removing the empty engine of a node that joins others: %w", err)
	}
	return nil
}

// dropJoin removes JOIN, so that it never comes back.
func (h *home) dropJoin() error {
	err := os.Remove(filepath.Join(h.dir, joinFile))
	if err == nil {
		err = syncDir(h.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tanodb: removing %s: %w", joinFile, err)
	}
	return nil
}

// nodeID is the node's id.
func (h *home) nodeID() [16]byte {
	id, _ := parseID(h.id)
	return id
}

// cluster is the id of a cluster of this node alone: the one that was kept, or a new
// one.
func (h *home) cluster() [16]byte {
	if id, ok := parseID(h.kept["cluster"]); ok {
		return id
	}
	return newID()
}

func (h *home) engineDir() string {
	if h.dir == "" {
		return ""
	}
	return filepath.Join(h.dir, engineName)
}

// resume takes the marker of a clean shutdown, if there is one that fits, and
// begins a new session of the engine. The marker is gone, durably, before what it
// says is used: it serves one start.
func (h *home) resume(e storage.Engine) (map[ring.Partition]incarnation, error) {
	var all map[ring.Partition]incarnation
	if h.dir != "" {
		all = h.readMarker(e, time.Now())
		err := os.Remove(filepath.Join(h.dir, cleanFile))
		if err == nil {
			err = syncDir(h.dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("tanodb: removing the marker of the last shutdown: %w", err)
		}
	}
	if _, err := crand.Read(h.session[:]); err != nil {
		return nil, fmt.Errorf("tanodb: no randomness for the session: %w", err)
	}
	err := h.keepSession(e)
	if err != nil && !errors.Is(err, storage.ErrFull) {
		return nil, fmt.Errorf("tanodb: beginning a session of the engine: %w", err)
	}
	if err != nil {
		return nil, nil // the disk is full: without a new session the marker would fit again
	}
	return all, nil
}

// keepSession writes the session into the engine, and waits until it and all that was
// applied before it are durable.
func (h *home) keepSession(e storage.Engine) error {
	var b storage.Batch
	b.Set(sessionKey, h.session[:])
	c, err := e.Apply(&b, true)
	if err != nil {
		return err
	}
	return c.Wait()
}

// readMarker reads the marker. One that does not fit in every respect counts for
// nothing: the vnodes then begin as new incarnations, which is always safe.
func (h *home) readMarker(e storage.Engine, now time.Time) map[ring.Partition]incarnation {
	path := filepath.Join(h.dir, cleanFile)
	stamp := stampOf(path)
	kept, err := e.Get(stampKey)
	if err != nil || !bytes.Equal(kept, stamp.bytes()) || !stamp.fresh(now) {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	session, err := e.Get(sessionKey)
	if err != nil {
		return nil
	}
	return parseMarker(b, session, stamp.inode)
}

// mark writes the marker of a clean shutdown, once all that the vnodes have
// applied is durable: with interval durability nobody has waited for the last of it, and
// a vnode that loses a write may not go on as the actor that made it.
func (h *home) mark(e storage.Engine, all map[ring.Partition]incarnation) error {
	if h.dir == "" {
		return nil
	}
	if err := h.keepSession(e); err != nil {
		return fmt.Errorf("tanodb: making the last writes durable: %w", err)
	}
	if err := h.write(cleanFile, func(f *os.File) ([]byte, error) {
		return formatMarker(h.session[:], stampOf(f.Name()).inode, all), nil
	}); err != nil {
		return err
	}
	stamp := storage.Batch{Urgent: true}
	stamp.Set(stampKey, stampOf(filepath.Join(h.dir, cleanFile)).bytes())
	c, err := e.Apply(&stamp, true)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("tanodb: keeping the stamp of the marker, without which it does not count: %w", err)
	}
	return nil
}

// formatMarker makes a marker:
//
//	"tanodb-clean 1\n" | session 16 | inode u64 | count u32 | (partition u16 | actor 8 | counter u64) … | CRC-32C u32
func formatMarker(session []byte, inode uint64, all map[ring.Partition]incarnation) []byte {
	b := []byte(cleanHeader + "\n")
	b = append(b, session...)
	b = binary.BigEndian.AppendUint64(b, inode)
	b = binary.BigEndian.AppendUint32(b, uint32(len(all)))
	for p, inc := range all {
		b = binary.BigEndian.AppendUint16(b, uint16(p))
		b = append(b, inc.actor[:]...)
		b = binary.BigEndian.AppendUint64(b, inc.counter)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseMarker is what a marker says; nil if it is not whole, is not of this
// session of the engine, or is a copy of the file that was written.
func parseMarker(b, session []byte, inode uint64) map[ring.Partition]incarnation {
	const entry = 2 + 8 + 8
	head := len(cleanHeader) + 1 + 16 + 8 + 4
	if inode == 0 || len(b) < head+4 || !bytes.HasPrefix(b, []byte(cleanHeader+"\n")) {
		return nil
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return nil
	}
	body = body[len(cleanHeader)+1:]
	count := int(binary.BigEndian.Uint32(body[24:]))
	if !bytes.Equal(body[:16], session) || binary.BigEndian.Uint64(body[16:]) != inode || len(body) != 28+count*entry {
		return nil
	}
	all := make(map[ring.Partition]incarnation, count)
	for e := body[28:]; len(e) > 0; e = e[entry:] {
		inc := incarnation{counter: binary.BigEndian.Uint64(e[10:])}
		copy(inc.actor[:], e[2:])
		all[ring.Partition(binary.BigEndian.Uint16(e))] = inc
	}
	return all
}

// write makes a file appear whole, or not at all.
func (h *home) write(name string, content func(*os.File) ([]byte, error)) error {
	path := filepath.Join(h.dir, name)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("tanodb: %w", err)
	}
	b, err := content(f)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(h.dir)
	}
	if err != nil {
		return fmt.Errorf("tanodb: writing %s: %w", path, err)
	}
	return nil
}

// close lets go of the directory.
func (h *home) close() error {
	if h.lock == nil {
		return nil
	}
	return h.lock.Close()
}

func syncDir(dir string) error {
	d, err := vfs.Default.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
