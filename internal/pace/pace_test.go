package pace

import (
	"testing"
	"time"
)

func TestABudgetIsThatOfASecondAndFillsWithTime(t *testing.T) {
	var b Bucket
	const rate = 1000
	if !b.Open(0, rate) || b.Opens(0, rate) != 0 {
		t.Fatal("a new one is not open")
	}
	b.Take(0, rate, 999)
	if !b.Open(0, rate) {
		t.Error("it is closed before it is used up")
	}
	b.Take(0, rate, 1501)
	at := b.Opens(0, rate)
	if b.Open(0, rate) || at < 1500*time.Millisecond || at > 1510*time.Millisecond {
		t.Errorf("overdrawn by 1500, it opens at %v", at)
	}
	if b.Open(at-10*time.Millisecond, rate) || !b.Open(at, rate) {
		t.Error("it does not open when it says")
	}
	b.Take(time.Hour, rate, rate)
	if b.Open(time.Hour, rate) || !b.Open(time.Hour+2*time.Millisecond, rate) {
		t.Error("it saves up more than a second")
	}
}

func TestNoLimit(t *testing.T) {
	var b Bucket
	b.Take(0, 0, 1<<40)
	if !b.Open(0, 0) || b.Opens(5, 0) != 5 {
		t.Error("0 a second is a limit")
	}
}

// Many small steps earn what one large one does.
func TestNothingIsLostBetweenSteps(t *testing.T) {
	var b Bucket
	b.Take(0, 10, 20)
	for now := time.Duration(0); now < 1100*time.Millisecond; now += time.Millisecond {
		b.Open(now, 10)
	}
	if !b.Open(1100*time.Millisecond, 10) {
		t.Error("it is still closed")
	}
}
