package msal

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// document is a cache in the unified schema: sections of items under keys. What is no
// section of MSAL's stays as it is.
type document map[string]json.RawMessage

// section is the items of one kind, by their keys.
type section map[string]item

// item is one of them, with its fields as they came.
type item map[string]json.RawMessage

const (
	accessTokens  = "AccessToken"
	refreshTokens = "RefreshToken"
	idTokens      = "IdToken"
	accounts      = "Account"
	appMetadata   = "AppMetadata"
)

func parseDocument(text []byte) (document, error) {
	d := document{}
	if len(text) == 0 {
		return d, nil
	}
	return d, json.Unmarshal(text, &d)
}

func (d document) section(name string) section {
	s := section{}
	if json.Unmarshal(d[name], &s) != nil {
		return section{} // MSAL will not make anything of it either
	}
	return s
}

func (d document) set(name string, s section) {
	if len(s) > 0 {
		d[name], _ = json.Marshal(s) // it was unmarshalled before
	}
}

func (it item) text(field string) string {
	var s string
	_ = json.Unmarshal(it[field], &s) // what is no string counts as absent
	return s
}

// forMSAL prepares the cache's form of the schema for MSAL Go. The keys become those that
// MSAL Go has for the items, or else what it writes would stand beside what it
// replaces: two refresh tokens, of which one is spent. And each client gets the AppMetadata
// without which MSAL Go does not look for a refresh token.
func forMSAL(text []byte) ([]byte, error) {
	d, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	d.dropBound()
	for _, name := range []string{accessTokens, refreshTokens, idTokens, accounts, appMetadata} {
		d.set(name, d.section(name).renamed(name))
	}
	metadata := d.section(appMetadata)
	for _, it := range d.section(refreshTokens) {
		about := item{"client_id": it["client_id"], "environment": it["environment"]}
		if key := keyOf(appMetadata, about); metadata[key] == nil {
			metadata[key] = about
		}
	}
	d.set(appMetadata, metadata)
	return json.Marshal(d)
}

// dropBound leaves out the tokens of continuous access evaluation and those for one
// resource ([tokencache.Request].CAE and Resource). MSAL Go does not read what tells them
// apart, and would hand them to callers that cannot handle the challenges, or that call
// another API. They stay where they are stored.
func (d document) dropBound() {
	s := d.section(accessTokens)
	kept := len(s)
	maps.DeleteFunc(s, func(_ string, it item) bool {
		var ext item
		return json.Unmarshal(it["ext"], &ext) == nil && (ext["cae"] != nil || ext["resource"] != nil)
	})
	if len(s) < kept {
		d[accessTokens], _ = json.Marshal(s) // it was unmarshalled before
	}
}

// renamed is the section under the keys of MSAL Go. Where two items have one key there,
// which MSAL Go cannot tell apart, nothing is lost.
func (s section) renamed(name string) section {
	r := make(section, len(s))
	for _, key := range slices.Sorted(maps.Keys(s)) {
		own := keyOf(name, s[key])
		for r[own] != nil {
			own += "-"
		}
		r[own] = s[key]
	}
	return r
}

// keyOf is the key that MSAL Go has for an item (apps/internal/base/storage/items.go
// there, and its neighbours).
func keyOf(name string, it item) string {
	account, environment, client := it.text("home_account_id"), it.text("environment"), it.text("client_id")
	var parts []string
	switch name {
	case accessTokens:
		parts = []string{account, environment, "accesstoken", client, it.text("realm"), it.text("target")}
		if kind := it.text("token_type"); kind != "" && !strings.EqualFold(kind, "Bearer") {
			parts = append(parts, kind)
		}
		if extra := it.text("ext_cache_key"); extra != "" {
			parts[2] = "atext"
			parts = append(parts, extra)
		}
	case refreshTokens:
		if family := it.text("family_id"); family != "" {
			client = family
		}
		parts = []string{account, environment, "refreshtoken", client}
	case idTokens:
		parts = []string{account, environment, "idtoken", client, it.text("realm")}
	case accounts:
		parts = []string{account, environment, it.text("realm")}
	case appMetadata:
		parts = []string{"appmetadata", environment, client}
	}
	return strings.ToLower(strings.Join(parts, "-"))
}

// date writes the time into the refresh and ID tokens that were not there before.
func (d document) date(before document, now time.Time) {
	stamp, _ := json.Marshal(strconv.FormatInt(now.Unix(), 10))
	for _, name := range []string{refreshTokens, idTokens} {
		old := make(map[string]bool)
		for _, it := range before.section(name) {
			old[it.text("secret")] = true
		}
		s := d.section(name)
		for _, it := range s {
			if !old[it.text("secret")] {
				it["last_modification_time"] = stamp
			}
		}
		d.set(name, s)
	}
}
