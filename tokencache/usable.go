package tokencache

import "time"

// refreshToken returns the account's refresh token for the client: its own, else
// one of the family that the document says it is in. Those of an incoming
// assertion, and those bound to something this library does not know, are for
// nobody else to spend.
func (s *snapshot) refreshToken(clientID, account string) (Secret, bool, error) {
	e := s.refreshEntry(clientID, account)
	if e == nil {
		return "", false, nil
	}
	secret, err := s.secret(e)
	return secret, err == nil, err
}

func (s *snapshot) refreshEntry(clientID, account string) *entry {
	var best *entry
	member := s.inFamily(clientID)
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != entryRefresh || e.flags&flagSpecial != 0 || e.assertion != "" || !equalFold(e.account, account) {
			continue
		}
		own := e.client == clientID
		if !own && (e.family != familyID || !member) {
			continue
		}
		bestOwn := best != nil && best.client == clientID
		if best == nil || own && !bestOwn || own == bestOwn && e.cachedAt > best.cachedAt {
			best = e
		}
	}
	return best
}

// familyID is the one family of clients there is: Microsoft's own.
const familyID = "1"

func (s *snapshot) inFamily(clientID string) bool {
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == entryClient && e.client == clientID && e.family == familyID {
			return true
		}
	}
	return false
}

// usable tells whether the client has anything to work with for the account: a
// refresh token, or an access token that has not expired.
func (s *snapshot) usable(clientID, account string, now time.Time) bool {
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind == entryAccess && e.flags&flagSpecial == 0 && e.belongs(clientID, account) && e.expires > now.Unix() {
			return true
		}
	}
	return s.refreshEntry(clientID, account) != nil
}

// lastExpiry is when the last access token ends, zero if there is none.
func (s *snapshot) lastExpiry() time.Time {
	var last int64
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == entryAccess {
			last = max(last, e.expires)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(last, 0)
}
