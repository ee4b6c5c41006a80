package tokencache

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// encodePlain returns the plaintext of a partition (index.go). Access tokens that
// have expired are left out; if the rest exceeds [MaxTokensSize], so are the
// oldest access tokens, but never a refresh token: the error is then
// [ErrTooLarge]. It does not change the document.
func encodePlain(m meta, d *document, now time.Time) ([]byte, error) {
	live := *d
	live.sections[accessTokens] = slices.DeleteFunc(slices.Clone(d.sections[accessTokens]), func(it *item) bool {
		return it.unix(fieldExpires) <= now.Unix()
	})
	for {
		text, all := live.encode()
		entries := live.entries(all)
		index := appendIndex(make([]byte, 0, 1024), entries)
		excess := plainHeader + len(index) + len(text) - MaxTokensSize
		if excess <= 0 {
			return assemble(m, index, text), nil
		}
		if !live.shed(excess, all, entries) {
			return nil, ErrTooLarge
		}
	}
}

func assemble(m meta, index, text []byte) []byte {
	b := make([]byte, 0, plainHeader+len(index)+len(text))
	b = append(b, plainMagic...)
	b = append(b, m.generation[:]...)
	b = append(b, m.mark[:]...)
	var end int64
	if !m.end.IsZero() {
		end = min(max(m.end.Unix(), 1), maxUnix)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(end))        // #nosec G115 -- not negative
	b = binary.BigEndian.AppendUint32(b, uint32(len(index))) // #nosec G115 -- at most MaxTokensSize
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))  // #nosec G115 -- likewise
	b = append(b, index...)
	return append(b, text...)
}

// shed removes the oldest access tokens, so many that they and their entries take
// up the excess. It returns false if there is none.
func (d *document) shed(excess int, all []placed, entries []entry) bool {
	var tokens []placed
	for _, p := range all {
		if p.section == accessTokens {
			tokens = append(tokens, p)
		}
	}
	slices.SortStableFunc(tokens, func(a, b placed) int {
		return cmp.Compare(a.item.unix(fieldCachedAt), b.item.unix(fieldCachedAt))
	})
	gone := map[*item]bool{}
	for _, p := range tokens {
		if excess <= 0 {
			break
		}
		gone[p.item] = true
		excess -= p.size
		if p.entry >= 0 {
			excess -= len(entries[p.entry].append(nil))
		}
	}
	d.sections[accessTokens] = slices.DeleteFunc(d.sections[accessTokens], func(it *item) bool { return gone[it] })
	return len(gone) > 0
}

// entries returns the index entries of what was encoded, and notes with each
// item which is its own.
func (d *document) entries(all []placed) []entry {
	entries := make([]entry, 0, len(all))
	ofAccounts, ofTokens := d.realms(accounts), d.realms(accessTokens)
	for i := range all {
		s, it := all[i].section, all[i].item
		all[i].entry = -1
		family := it.text(fieldFamily)
		if secret := it.text(fieldSecret); secret == "" && (s != appMetadata || family == "") || s == idTokens || s == accounts {
			continue
		}
		all[i].entry = len(entries)
		entries = append(entries, entry{})
		e := &entries[len(entries)-1]
		e.client, e.account, e.family = it.text(fieldClient), it.text(fieldHomeAccount), family
		e.assertion, e.cachedAt, e.span = assertionHash(it), modified(it), all[i].secret
		switch s {
		case accessTokens:
			key := strings.ToLower(e.account)
			e.describeAccess(it, homeOf(e.account, ofAccounts[key], ofTokens[key]))
		case refreshTokens:
			e.kind = entryRefresh
			if it.qualifiers() != (qualifiers{}) {
				e.flags = flagSpecial
			}
		default:
			e.kind = entryClient
		}
	}
	return entries
}

func (e *entry) describeAccess(it *item, home string) {
	q := it.qualifiers()
	e.kind = entryAccess
	e.realm = it.text(fieldRealm)
	e.resource, e.claims = q.resource, q.claims
	e.scopes = strings.Fields(it.text(fieldTarget))
	e.cachedAt = it.unix(fieldCachedAt)
	e.expires = it.unix(fieldExpires)
	e.refreshOn = it.unix(fieldRefreshOn)
	if e.realm == home {
		e.flags |= flagHome
	}
	switch {
	case q.foreign != "" || tokenType(it) != bearer:
		e.flags |= flagSpecial
	case q.cae:
		e.flags |= flagCAE
	}
}

// snapshot is the plaintext of a partition with its index decoded. It does not
// change, and is safe for concurrent use.
type snapshot struct {
	meta
	plain   []byte
	entries []entry
	json    []byte // within plain
}

// parsePlain reads a plaintext and keeps it: the caller gives b away. It looks
// at the index only.
func parsePlain(b []byte) (*snapshot, error) {
	if len(b) < plainHeader || len(b) > MaxTokensSize || string(b[:len(plainMagic)]) != plainMagic {
		return nil, errPlain
	}
	s := &snapshot{plain: b}
	copy(s.generation[:], b[4:20])
	copy(s.mark[:], b[20:36])
	end := binary.BigEndian.Uint64(b[36:44])
	n, m := uint64(binary.BigEndian.Uint32(b[44:48])), uint64(binary.BigEndian.Uint32(b[48:52]))
	if end > maxUnix || plainHeader+n+m != uint64(len(b)) {
		return nil, errPlain
	}
	if end != 0 {
		s.end = time.Unix(int64(end), 0) // #nosec G115 -- at most maxUnix
	}
	s.json = b[plainHeader+n:]
	var err error
	s.entries, err = parseIndex(b[plainHeader:plainHeader+n], len(s.json))
	return s, err
}

// document decodes all of the document, as a copy that the caller may change.
func (s *snapshot) document() (*document, error) { return parseDocument(s.json) }

// entrySize is what an entry takes in memory, without its texts.
const entrySize = 208

// size is roughly how many bytes the snapshot keeps alive.
func (s *snapshot) size() int {
	index := len(s.plain) - plainHeader - len(s.json) // once more, as text
	n := len(s.plain) + index + len(s.entries)*entrySize
	for i := range s.entries {
		n += s.entries[i].span.length // once more, when it was asked for
	}
	return n
}
