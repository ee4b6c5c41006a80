package xoauth2

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// capabilityCAE is Microsoft Entra ID's client capability for continuous access
// evaluation: the client can handle claims challenges.
const capabilityCAE = "cp1"

var errClaims = errors.New("xoauth2: the claims request is not a JSON object")

var errCapability = errors.New("xoauth2: the claims request is not a JSON object that the capability of continuous access evaluation could be added to")

// withCapability adds the capability to a claims request, if it is wanted, where
// Entra ID's clients have it: the member xms_cc of access_token. What is asked for
// besides stays.
func withCapability(claims string, wanted bool) (string, error) {
	if !wanted {
		return claims, nil
	}
	all, token, clients := object{}, object{}, object{}
	var values []string
	if claims != "" && !all.decode(json.RawMessage(claims)) || !token.decode(all["access_token"]) || !clients.decode(token["xms_cc"]) {
		return "", errCapability
	}
	if v := clients["values"]; v != nil && json.Unmarshal(v, &values) != nil {
		return "", errCapability
	}
	if !slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, capabilityCAE) }) {
		values = append(values, capabilityCAE)
	}
	clients["values"], _ = json.Marshal(values) // texts and what was decoded cannot fail
	token["xms_cc"], _ = json.Marshal(clients)
	all["access_token"], _ = json.Marshal(token)
	b, _ := json.Marshal(all)
	return string(b), nil
}

// object is a JSON object whose members stay as they came.
type object map[string]json.RawMessage

// decode reads an object; there may be none.
func (o *object) decode(text json.RawMessage) bool {
	if len(text) == 0 {
		return true
	}
	ok := json.Unmarshal(text, o) == nil
	if *o == nil {
		*o = object{} // in a claims request null is a claim without particulars
	}
	return ok
}
