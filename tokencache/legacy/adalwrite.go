package legacy

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// What is written of an entry: MSAL.NET leaves out the rest. (Its builds without
// Newtonsoft.Json leave out ResourceInResponse too. With it ADAL knows that the refresh
// token is good for all resources, and replaces it wherever it is.)
type adalWrapper struct {
	Result             adalResult
	RawClientInfo      string `json:",omitempty"`
	RefreshToken       string
	ResourceInResponse string `json:",omitempty"`
}

type adalResult struct{ UserInfo adalUser }

type adalUser struct {
	UniqueID      string `json:"UniqueId,omitempty"`
	DisplayableID string `json:"DisplayableId,omitempty"`
}

// writeADAL returns the document in the ADAL v3 format. Of a user and a client there is
// one entry, the newest.
func (d *document) writeADAL() []byte {
	var pairs []pair
	has := map[string]bool{}
	tokens := slices.Clone(d.sections[refreshTokens])
	slices.SortStableFunc(tokens, func(a, b item) int { return cmp.Compare(b.modified(), a.modified()) })
	for _, it := range tokens {
		if it.text(fieldSecret) == "" || it.text(fieldHome) == "" || it.text(fieldFamily) != "" ||
			it.assertion() != "" || it.qualified() {
			continue
		}
		account, resource := d.accountOf(it), d.scopesOf(it)
		key, ok := joinKey(authorityOf(account), resource, it.text(fieldClient), d.subjectOf(it))
		if !ok {
			continue
		}
		who := adalUser{UniqueID: account.text(fieldLocal), DisplayableID: account.text(fieldUsername)}
		// ADAL, to which these are one, would refuse the whole file.
		same := fmt.Sprintf("%q %q", key[:strings.Index(key, delimiter)], strings.ToLower(fmt.Sprintf("%q %q", who, it.text(fieldClient))))
		if has[it.user()] || has[same] {
			continue
		}
		has[it.user()], has[same] = true, true
		value := adalWrapper{
			Result:             adalResult{UserInfo: who},
			RefreshToken:       it.text(fieldSecret),
			RawClientInfo:      it.text(fieldClientInfo),
			ResourceInResponse: resource,
		}
		if !strings.EqualFold(homeOf(value.RawClientInfo), it.text(fieldHome)) {
			value.RawClientInfo = infoOf(it.text(fieldHome))
		}
		pairs = append(pairs, pair{key: key, value: string(encode(value))})
	}
	return appendPairs(nil, pairs)
}

// joinKey returns the key of an entry, and false if there is none that would be read
// as it was meant. The resource is the part that can be left out.
func joinKey(authority, resource, client, subject string) (string, bool) {
	for _, r := range [...]string{resource, ""} {
		parts := []string{authority, r, client, subject}
		key := strings.Join(parts, delimiter)
		if slices.Equal(strings.Split(key, delimiter), parts) {
			return key, authority != ""
		}
	}
	return "", false
}

// accountOf returns the account of a refresh token: in its own environment, and in
// the directory where the user is at home, if it is there. Without any it is made up
// from the account ID.
func (d *document) accountOf(token item) item {
	home, env := token.text(fieldHome), token.text(fieldEnv)
	uid, utid, _ := strings.Cut(home, ".")
	var best item
	rank := 0
	for _, it := range d.sections[accounts] {
		if !strings.EqualFold(it.text(fieldHome), home) {
			continue
		}
		r := 1
		if strings.EqualFold(it.text(fieldRealm), utid) {
			r++
		}
		if strings.EqualFold(it.text(fieldEnv), env) {
			r += 2
		}
		if r > rank {
			best, rank = it, r
		}
	}
	account := item{}
	for _, name := range [...]string{fieldRealm, fieldLocal, fieldUsername} {
		account.set(name, best.text(name))
	}
	account.set(fieldEnv, env)
	if account[fieldRealm] == nil && best.text(fieldAuthority) != "ADFS" {
		account.set(fieldRealm, utid)
	}
	if account.text(fieldLocal) == "" {
		account.set(fieldLocal, uid)
	}
	return account
}

// authorityOf returns the authority of an account as ADAL writes one, "" if there can
// be none.
func authorityOf(account item) string {
	host, realm := strings.ToLower(account.text(fieldEnv)), account.text(fieldRealm)
	if realm == "" {
		realm = "adfs"
	}
	authority := "https://" + host + "/" + url.PathEscape(realm) + "/"
	u, err := url.Parse(authority)
	if err != nil || host == "" || u.Host != host || strings.HasSuffix(host, ".b2clogin.com") {
		return ""
	}
	return authority
}

// scopesOf returns the scopes of the newest access token that came with the refresh
// token, or one like it.
func (d *document) scopesOf(token item) string {
	scopes, newest := "", int64(-1)
	for _, it := range d.sections[accessTokens] {
		at := it.unix(fieldCachedAt)
		if at > newest && it.user() == token.user() && it.plain() {
			scopes, newest = it.text(fieldTarget), at
		}
	}
	return scopes
}

// subjectOf returns the subject type that the client had when it was read: in the
// environment of the token, or else in another.
func (d *document) subjectOf(token item) string {
	subject := ""
	for _, it := range d.sections[appMetadata] {
		own := it.text(fieldSubject)
		if it.text(fieldClient) != token.text(fieldClient) || own != subjectUser && own != subjectBoth {
			continue
		}
		if strings.EqualFold(it.text(fieldEnv), token.text(fieldEnv)) {
			return own
		}
		subject = max(subject, own)
	}
	return cmp.Or(subject, subjectUser)
}
