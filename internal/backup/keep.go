package backup

import (
	"slices"
	"time"
)

// Keep says which backups stay. Of each cluster the newest whole one always does, and all
// that are newer than one that stays. Of a cluster without a whole one all do.
type Keep struct {
	Newest int       // so many whole ones of each cluster
	Since  time.Time // and those that began then or later; zero: none for that
}

// Summary is what decides about a backup.
type Summary struct {
	ID      string
	Cluster string
	Began   time.Time
	Whole   bool
}

// Choose parts backups, given in order of their ids, into those that stay and those that go.
// One that is not whole takes nobody's place: it stays as long as an older one does.
func (k Keep) Choose(all []Summary) (stay, gone []string) {
	oldest := map[string]string{} // by cluster, the oldest that stays
	whole := map[string]int{}
	for _, b := range slices.Backward(all) {
		recent := !k.Since.IsZero() && !b.Began.Before(k.Since)
		if recent || b.Whole && whole[b.Cluster] < max(1, k.Newest) {
			oldest[b.Cluster] = b.ID
		}
		if b.Whole {
			whole[b.Cluster]++
		}
	}
	for _, b := range all {
		if whole[b.Cluster] == 0 || b.ID >= oldest[b.Cluster] { // without a whole one all stay
			stay = append(stay, b.ID)
		} else {
			gone = append(gone, b.ID)
		}
	}
	return stay, gone
}
