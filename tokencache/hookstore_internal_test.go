package tokencache

import (
	"errors"
	"testing"
	"time"
)

// A removal is remembered for longer than what many readers push out.
func TestHookStoreRemembersRemovals(t *testing.T) {
	t.Parallel()
	s := newHookStore(&hooks{}, time.Second)
	defer s.close()
	name, tomb := Name{Owner: "o", Partition: "p"}, NewVersion()
	s.gone.Set(name, tomb)
	if err := s.check(t.Context(), name, IfVersion(NewVersion())); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want a conflict with the tombstone", err)
	}
	if err := s.check(t.Context(), name, Condition{}); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want a conflict with the tombstone", err)
	}
	for _, c := range []Condition{IfVersion(tomb), Always()} {
		if err := s.check(t.Context(), name, c); err != nil {
			t.Error(err)
		}
	}
}
