//go:build unix

package testserver

import "testing"

func TestAccountOf(t *testing.T) {
	if who, err := accountOf("no-such-user", "nobody"); err != nil || who.uid == 0 || !who.other {
		t.Errorf("%+v, %v, want nobody", who, err)
	}
	if who, err := accountOf("no-such-user", "root"); err == nil {
		t.Errorf("%+v, want an error", who)
	}
}
