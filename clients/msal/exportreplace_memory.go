package msal

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// given is what an MSAL client was filled with.
type given struct {
	key    tokencache.Key     // of the partition
	tokens *tokencache.Tokens // as the partition had it, with what Merge wants to know
	text   []byte             // as the client got it; nil for nothing
	at     time.Time
}

func newGiven(key tokencache.Key, tokens *tokencache.Tokens) (*given, error) {
	text, err := tokens.MarshalJSON()
	if err == nil {
		text, err = forMSAL(text)
	}
	return &given{key: key, tokens: tokens, text: text, at: time.Now()}, err
}

// changed is what the client has made of it. MSAL does not date what it writes, and what
// is dated counts as newer than what is not.
func (g *given) changed(text []byte) (*tokencache.Tokens, error) {
	before, err := parseDocument(g.text)
	if err != nil {
		return nil, err
	}
	after, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	after.date(before, time.Now())
	if text, err = json.Marshal(after); err != nil {
		return nil, err
	}
	tokens := &tokencache.Tokens{}
	return tokens, tokens.UnmarshalJSON(text)
}

// memory is what each MSAL client was given last. Usually there is one of them. MSAL
// identifies them by nothing but their memory, the same in Replace and in Export.
type memory struct {
	mu  sync.Mutex
	all map[any]*given
}

const (
	// memoryAge is longer than a token request takes. Older tokens are not given to a
	// client again, as their refresh token may have been spent elsewhere.
	memoryAge = time.Minute
	// memorySize bounds how many clients of one ExportReplace are waiting for the token
	// endpoint and survive an outage of the store that begins meanwhile.
	memorySize = 64
)

// get returns what the client was given of the partition, nil if that was another's.
func (m *memory) get(client any, key tokencache.Key) *given {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.all[client]; g != nil && g.key == key && time.Since(g.at) < memoryAge {
		return g
	}
	return nil
}

// put remembers what the client was given, and forgets those whose calls are over.
func (m *memory) put(client any, g *given) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = make(map[any]*given)
	}
	if len(m.all) >= memorySize {
		m.forget()
	}
	m.all[client] = g
}

// forget drops what is too old to be of use, and if that is nothing, the oldest.
func (m *memory) forget() {
	var oldest any
	for client, g := range m.all {
		switch {
		case time.Since(g.at) >= memoryAge:
			delete(m.all, client)
		case oldest == nil || g.at.Before(m.all[oldest].at):
			oldest = client
		}
	}
	if len(m.all) >= memorySize {
		delete(m.all, oldest)
	}
}
