package legacy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// document is what a partition holds, in the unified schema.
type document struct {
	sections [sectionCount][]item
	rest     map[string]json.RawMessage // members that are no section
}

type section int

const (
	accessTokens section = iota
	refreshTokens
	idTokens
	accounts
	appMetadata

	sectionCount
)

// name is the section's name in the unified schema.
func (s section) name() string {
	return [sectionCount]string{"AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"}[s]
}

// item is one entry of a section.
type item map[string]json.RawMessage

// The fields of items that are looked at or written.
const (
	fieldHome       = "home_account_id"
	fieldEnv        = "environment"
	fieldClient     = "client_id"
	fieldClientInfo = "client_info"
	fieldCredential = "credential_type"
	fieldSecret     = "secret"
	fieldRealm      = "realm"
	fieldTarget     = "target"
	fieldTokenType  = "token_type"
	fieldFamily     = "family_id"
	fieldAssertion  = "user_assertion_hash"
	fieldCachedAt   = "cached_at"
	fieldModified   = "last_modification_time"
	fieldLocal      = "local_account_id"
	fieldUsername   = "username"
	fieldGivenName  = "given_name"
	fieldFamilyName = "family_name"
	fieldAuthority  = "authority_type"
)

// qualifying are the fields of tokens that were obtained with more parameters than
// scopes, in the schemas of MSAL.NET, Go and Node.
var qualifying = [...]string{"ext", "ext_cache_key", "requestedClaims", "requestedClaimsHash"}

// nodeAssertion is MSAL Node's name for fieldAssertion.
const nodeAssertion = "userAssertionHash"

// text returns a string field, "" if it is absent or no string.
func (it item) text(name string) string {
	s, _ := text(it[name])
	return s
}

// set sets a string field; "" removes it.
func (it item) set(name, s string) {
	if s == "" {
		delete(it, name)
		return
	}
	it[name] = encode(s)
}

// unix returns a time field, 0 if it is absent.
func (it item) unix(name string) int64 {
	n, _ := strconv.ParseInt(it.text(name), 10, 64)
	return n
}

// modified is when the item was written, as far as it says so.
func (it item) modified() int64 { return cmp.Or(it.unix(fieldModified), it.unix(fieldCachedAt)) }

// qualified tells whether the item was obtained with more parameters than scopes.
func (it item) qualified() bool {
	return slices.ContainsFunc(qualifying[:], func(name string) bool { return it[name] != nil })
}

// assertion is the hash of the incoming token, "" if there was none.
func (it item) assertion() string {
	if hash := it.text(fieldAssertion); hash != "" {
		return hash
	}
	return it.text(nodeAssertion)
}

// user names the user and the client of a token. Hosts are not compared: one cloud
// has several, and account IDs of Microsoft Entra ID are its own.
func (it item) user() string {
	client := "client " + it.text(fieldClient)
	if family := it.text(fieldFamily); family != "" {
		client = "family " + family
	}
	name := fmt.Sprintf("%q %q %q", strings.ToLower(it.text(fieldHome)), client, strings.TrimRight(it.assertion(), "="))
	if !strings.Contains(it.text(fieldHome), ".") {
		name += " " + strings.ToLower(it.text(fieldEnv))
	}
	return name
}

// documentOf takes tokens apart. The sections are in the order of their keys.
func documentOf(t *tokencache.Tokens) (*document, error) {
	b, err := t.MarshalJSON()
	if err != nil {
		return nil, err
	}
	d := &document{}
	if err := json.Unmarshal(b, &d.rest); err != nil {
		return nil, tokencache.ErrUnreadable // never: Tokens write JSON
	}
	for s := range sectionCount {
		var items map[string]item
		if err := json.Unmarshal(d.rest[s.name()], &items); err != nil {
			return nil, tokencache.ErrUnreadable // likewise
		}
		delete(d.rest, s.name())
		for _, key := range slices.Sorted(maps.Keys(items)) {
			d.sections[s] = append(d.sections[s], items[key])
		}
	}
	return d, nil
}

// json returns the document with keys that mean nothing but the order of the items:
// of two that are the same entry and equally new, tokencache keeps the later one.
func (d *document) json() []byte {
	members := maps.Clone(d.rest)
	if members == nil {
		members = map[string]json.RawMessage{}
	}
	for s := range sectionCount {
		items := make(map[string]item, len(d.sections[s]))
		for i, it := range d.sections[s] {
			items[fmt.Sprintf("%07d", i)] = it
		}
		members[s.name()] = encode(items)
	}
	return encode(members)
}

// tokens puts the document together again. Access tokens are left out if there is
// no room for them: others can be had.
func (d *document) tokens() (*tokencache.Tokens, error) {
	t := &tokencache.Tokens{}
	b := d.json()
	if len(b) > tokencache.MaxTokensSize {
		b = d.withoutAccess().json()
	}
	return t, t.UnmarshalJSON(b)
}

func (d *document) withoutAccess() *document {
	without := *d
	without.sections[accessTokens] = nil
	return &without
}
