package msal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ManagedIdentityOptions are the settings of a [ManagedIdentity]. The zero value of each
// field means its default.
type ManagedIdentityOptions struct {
	// Name names a system-assigned identity in the cache. Machines that share a store
	// share the tokens of a name: give it to those that have the same identity, such as
	// the instances of one app service or scale set, and to no others; deployment slots
	// have identities of their own. Required for [managedidentity.SystemAssigned], and
	// an error for the others, whose IDs name them.
	Name string

	// HTTPClient asks the platform. It is copied: the copy follows no redirects, which
	// would take the platform's secret along, keeps no cookies, and reads at most 1 MiB
	// of an answer. Defaults to one that uses no proxy and keeps no connections. On
	// Service Fabric its transport must be an *[http.Transport].
	HTTPClient *http.Client
}

// ManagedIdentity obtains tokens of an identity that Azure gives to machines, so that the
// application has no credential of its own. It is safe for concurrent use.
type ManagedIdentity struct {
	cache    *tokencache.Cache
	identity string // the partitions' name of it
	client   managedidentity.Client
}

// NewManagedIdentity returns the tokens of an identity of the machine that it runs on:
// [managedidentity.SystemAssigned], or a user-assigned one by its client ID, object ID or
// resource ID. The environment tells MSAL which platform that is: App Service, Azure
// Arc, Service Fabric, Azure ML, Cloud Shell, or else a virtual machine. Nothing is asked
// before the first token is needed.
//
// The cache may be one that users' tokens are in as well; its namespace only names it.
func NewManagedIdentity(cache *tokencache.Cache, id managedidentity.ID, o *ManagedIdentityOptions) (*ManagedIdentity, error) {
	if cache == nil {
		return nil, errors.New("msal: the cache is nil")
	}
	if o == nil {
		o = &ManagedIdentityOptions{}
	}
	identity, err := identityName(id, o.Name)
	if err != nil {
		return nil, err
	}
	client, err := managedidentity.New(id, managedidentity.WithHTTPClient(newPlatform(o.HTTPClient)))
	if err != nil {
		return nil, fmt.Errorf("msal: the managed identity or its environment is not valid: %w", err)
	}
	return &ManagedIdentity{cache: cache, identity: identity, client: client}, nil
}

// identityName returns what tells an identity from all others.
func identityName(id managedidentity.ID, name string) (string, error) {
	kind, value := "system", name
	switch id := id.(type) {
	case managedidentity.UserAssignedClientID:
		kind, value = "client", string(id)
	case managedidentity.UserAssignedObjectID:
		kind, value = "object", string(id)
	case managedidentity.UserAssignedResourceID:
		kind, value = "resource", string(id)
	default:
		if id != managedidentity.SystemAssigned() {
			return "", errors.New("msal: the managed identity's ID is not one of MSAL's")
		}
		if name == "" {
			return "", errors.New("msal: ManagedIdentityOptions.Name is empty: a system-assigned identity needs a name that no machine with another one uses")
		}
		return kind + ":" + value, nil
	}
	if name != "" {
		return "", errors.New("msal: ManagedIdentityOptions.Name is for a system-assigned identity: this one has an ID")
	}
	return kind + ":" + strings.ToLower(value), nil // as Azure compares IDs
}

// AppToken returns an access token of the identity. The request names one resource, as
// Resource or as the one scope "<resource>/.default"; each is a partition of its own. The
// token is the cache's: found without MSAL, obtained and refreshed once for all requests
// and machines, and refreshed behind the callers when it is about to expire; see
// [tokencache.Partition.Token].
//
// With Refused or Claims the platform is asked for another token. It has a cache of its
// own, too: if that gives the refused one again, the error is a
// *[tokencache.ServerError], and the token is not returned. The claims themselves MSAL
// tells no platform, nor of capabilities, so that CAE is ignored: there is one kind of
// token. An identity has tokens of its own tenant alone, so that Tenant, which some
// clients of the Azure SDK always name, is ignored too.
//
// Errors: *[tokencache.ServerError] if the platform does not answer, also because there
// is none, is overloaded or answers nonsense, after three attempts and at most 10
// seconds; the context's; one that says that the machine has no such identity; and the
// cache's. None of them repeats the platform's answer. One of MSAL's own, such as for a
// file of Azure Arc that cannot be read, is found by [errors.As] alone.
func (m *ManagedIdentity) AppToken(ctx context.Context, req tokencache.Request) (tokencache.Token, error) {
	resource, err := resourceOf(&req)
	if err != nil {
		return tokencache.Token{}, err
	}
	name := url.Values{"identity": {m.identity}, "resource": {resource}}
	p := m.cache.Partition(tokencache.ApplicationKey("", "managed-identity?"+name.Encode()))
	same := tokencache.Request{Scopes: []string{resource + defaultScope}, Claims: req.Claims, Refused: req.Refused}
	return p.Token(ctx, same, &identityServer{client: m.client, resource: resource})
}

const defaultScope = "/.default"

// resourceOf returns what the token is for.
func resourceOf(req *tokencache.Request) (string, error) {
	resource := req.Resource
	if len(req.Scopes) == 1 {
		named, ok := strings.CutSuffix(req.Scopes[0], defaultScope)
		if ok && (resource == "" || resource == named) {
			resource = named
		} else {
			resource = ""
		}
	}
	if resource == "" || len(req.Scopes) > 1 {
		return "", errors.New(`msal: a managed identity's token is for one resource: Request.Resource, or the one scope "<resource>/.default"`)
	}
	return resource, nil
}
