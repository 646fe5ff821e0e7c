package testports

import (
	"net"
	"testing"
)

func none(int) bool { return false }

// A port that was given is not given again before all others of the range were, though
// nobody listens on it yet.
func TestTakeGoesRound(t *testing.T) {
	r := &Range{first: 100, end: 140, taken: none}
	seen := map[int]bool{}
	for range 4 { // 40 ports hold four times 8, wherever the first begins
		base, err := r.Take(8)
		if err != nil {
			t.Fatal(err)
		}
		for port := base; port < base+8; port++ {
			if seen[port] || port < r.first || port >= r.end {
				t.Errorf("port %d is given twice, or is not of the range", port)
			}
			seen[port] = true
		}
	}
	if base, err := r.Take(40); err != nil || base != r.first {
		t.Errorf("all of them: from %d on, error %v", base, err)
	}
	if base, err := r.Take(41); err == nil {
		t.Errorf("more than there are: from %d on", base)
	}
}

func TestTakePassesOverWhatIsTaken(t *testing.T) {
	r := &Range{first: 100, end: 106, taken: func(port int) bool { return port == 102 }}
	for range 3 {
		if base, err := r.Take(3); err != nil || base != 103 {
			t.Errorf("three in a row: from %d on, error %v", base, err)
		}
	}
	if base, err := r.Take(4); err == nil {
		t.Errorf("four in a row: from %d on", base)
	}
}

func TestListens(t *testing.T) {
	l, err := net.Listen("tcp", At(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if !listens(port) {
		t.Errorf("nobody listens on port %d", port)
	}
	address, err := Transport.Address()
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the address is not free: %v", err)
	}
	free.Close()
}

// No two packages may be given the same port.
func TestRangesAreApart(t *testing.T) {
	ranges := []*Range{Transport, Root, Compat, Commands, Processes, Console}
	for i, r := range ranges {
		if r.first >= r.end || r.end > 32_768 || i > 0 && r.first < ranges[i-1].end {
			t.Errorf("range %d is from %d to %d", i, r.first, r.end)
		}
	}
}
