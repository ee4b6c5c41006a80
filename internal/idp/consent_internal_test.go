package idp

import (
	"strconv"
	"testing"
)

func TestConsentIsBounded(t *testing.T) {
	t.Parallel()
	st := newStore()
	st.askConsent = true
	u := user{key: "anna"}
	for i := range maxConsents + 10 {
		st.consent(u, "c", []permission{{"api://a", strconv.Itoa(i)}})
	}
	if allowed, _ := st.consents.get(consentKey(u, "c")); len(allowed) != maxConsents {
		t.Errorf("%d permissions are kept, want %d", len(allowed), maxConsents)
	}
	ps := []permission{{"api://a", "0"}, {"api://a", strconv.Itoa(maxConsents + 5)}}
	if got := st.missing(u, "c", ps); len(got) != 1 || got[0] != ps[1] {
		t.Errorf("missing %v", got)
	}
}
