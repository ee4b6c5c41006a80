package legacy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// noteMember is the member of the unified document that says which refresh tokens
// were read or written in the older format, the latest last:
//
//	"coatcheck_legacy": {"seen": ["22 letters of base64url", …]}
//
// Each is the first half of a token's SHA-256. Other libraries keep the member, or
// drop it.
const noteMember = "coatcheck_legacy"

// noted is how many are kept of those that are no longer in the older format.
const noted = 16

type note struct {
	Seen []string `json:"seen"`
}

// noteOf reads the note, and tells whether there is one.
func (d *document) noteOf() (n note, ok bool) {
	ok = json.Unmarshal(d.rest[noteMember], &n) == nil
	return n, ok
}

// note notes the refresh tokens that are in the older format now.
func (d *document) note(now []string) {
	n, _ := d.noteOf()
	before := slices.DeleteFunc(n.Seen, func(h string) bool { return slices.Contains(now, h) })
	before = before[max(len(before)-noted, 0):]
	d.rest[noteMember] = encode(note{Seen: append(before, now...)})
}

// hashes returns what is noted of each refresh token of the document.
func hashes(d *document) []string {
	list := []string{} // not null
	for _, it := range d.sections[refreshTokens] {
		list = append(list, hashOf(it))
	}
	return list
}

func hashOf(token item) string {
	sum := sha256.Sum256([]byte(token.text(fieldSecret)))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// join returns the contents of both formats: everything that either has, with the
// rule of [Dual] for refresh tokens. Of other entries the newer one stays, and of
// those without a date that of main.
func join(main, older *tokencache.Tokens) (*tokencache.Tokens, error) {
	d, err := documentOf(main)
	if err != nil {
		return nil, err
	}
	old, err := documentOf(older)
	if err != nil {
		return nil, err
	}
	old.rehome(d)
	n, known := d.noteOf()
	for _, it := range old.sections[refreshTokens] {
		d.joinRefreshToken(it, known && !slices.Contains(n.Seen, hashOf(it)))
	}
	for _, it := range old.sections[appMetadata] {
		d.joinClient(it)
	}
	for _, s := range [...]section{accessTokens, idTokens, accounts} {
		d.sections[s] = append(slices.Clip(old.sections[s]), d.sections[s]...) // the later one wins
	}
	d.note(hashes(old)) // for the next save
	return d.tokens()
}

// joinRefreshToken adds a refresh token of the older format. It replaces those of its
// user and client if it is new.
func (d *document) joinRefreshToken(it item, isNew bool) {
	found := false
	for i, own := range d.sections[refreshTokens] {
		if own.user() != it.user() || own.qualified() != it.qualified() {
			continue
		}
		found = true
		if !isNew || own.text(fieldSecret) == it.text(fieldSecret) {
			continue
		}
		renewed := maps.Clone(own)
		for _, name := range [...]string{fieldSecret, fieldClientInfo} {
			if it[name] != nil {
				renewed[name] = it[name]
			}
		}
		d.sections[refreshTokens][i] = renewed
	}
	if !found {
		d.sections[refreshTokens] = append(d.sections[refreshTokens], it)
	}
}

// joinClient adds what ADAL knows of a client.
func (d *document) joinClient(it item) {
	found := false
	for _, own := range d.sections[appMetadata] {
		if own.text(fieldClient) == it.text(fieldClient) {
			own[fieldSubject], found = it[fieldSubject], true
		}
	}
	if !found {
		d.sections[appMetadata] = append(d.sections[appMetadata], it)
	}
}

// rehome gives users whose account ID was made up, of their directory and their ID
// there, the one that main knows for them.
func (d *document) rehome(main *document) {
	type place struct{ realm, local string }
	placeOf := func(account item) place {
		return place{realm: strings.ToLower(account.text(fieldRealm)), local: strings.ToLower(account.text(fieldLocal))}
	}
	known := map[place]string{}
	for _, account := range main.sections[accounts] {
		known[placeOf(account)] = account.text(fieldHome)
	}
	moved := map[string]string{}
	for _, account := range d.sections[accounts] {
		home, at := account.text(fieldHome), placeOf(account)
		if account[fieldClientInfo] == nil && at.realm != "" && strings.EqualFold(home, at.local+"."+at.realm) && known[at] != "" {
			moved[home] = known[at]
		}
	}
	for s := range sectionCount {
		for _, it := range d.sections[s] {
			if home := moved[it.text(fieldHome)]; home != "" && it[fieldClientInfo] == nil {
				it.set(fieldHome, home)
			}
		}
	}
}
