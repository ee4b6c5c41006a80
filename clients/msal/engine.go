package msal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// assertionTimeout is that of xoauth2's client assertions.
const assertionTimeout = 10 * time.Second

// engine has MSAL make token requests.
type engine struct {
	authority  string
	clientID   string
	credential *confidential.Credential // nil: a public client
	options    Options
	metadata   metadata
	devices    devices
}

func newEngine(ns tokencache.Namespace, o *Options) (*engine, error) {
	credential, err := o.credential()
	if err != nil {
		return nil, err
	}
	e := &engine{authority: o.authority(ns.Issuer), clientID: ns.ClientID, credential: credential, options: *o}
	// It asks nobody anything. What it says is about the options.
	if credential != nil {
		_, err = e.confidential(&recorder{}, nil, false, o.AzureRegion)
	} else {
		_, err = e.public(&recorder{}, nil, false)
	}
	if err != nil {
		return nil, fmt.Errorf("msal: the authority or an option is not valid: %w", err)
	}
	return e, nil
}

// exchange is [xoauth2.Options].Exchange: an MSAL client that is made for this request
// makes it. The answer is the server's own, whatever MSAL thinks of it.
func (e *engine) exchange(ctx context.Context, r *xoauth2.TokenRequest) (*http.Response, error) {
	if r.Resource != "" {
		return nil, fmt.Errorf("msal: a resource, which MSAL has no parameter for: %w", errors.ErrUnsupported)
	}
	rec := &recorder{client: r.HTTPClient, metadata: &e.metadata}
	var result confidential.AuthResult
	var err error
	switch {
	case r.Form.Get("grant_type") == "", r.Form.Get("grant_type") == grantDevice:
		return e.device(ctx, r, rec)
	case e.credential != nil:
		result, err = e.askConfidential(ctx, r, rec)
	default:
		result, err = e.askPublic(ctx, r, rec)
	}
	return rec.outcome(ctx, &result, err)
}

// noRegion is MSAL's word for none, whatever the environment says.
const noRegion = "DisableMsalForceRegion"

// confidential returns an MSAL client for one request, whose HTTP client is the recorder.
// An empty region is MSAL's default; cae is that of the request.
func (e *engine) confidential(rec *recorder, accessor cache.ExportReplace, cae bool, region string) (confidential.Client, error) {
	options := []confidential.Option{
		confidential.WithHTTPClient(rec),
		confidential.WithCache(accessor),
		confidential.WithInstanceDiscovery(!e.options.DisableInstanceDiscovery),
		confidential.WithClientCapabilities(e.options.capabilities(cae)),
	}
	if region != "" {
		options = append(options, confidential.WithAzureRegion(region))
	}
	if e.options.SendX5C {
		options = append(options, confidential.WithX5C())
	}
	return confidential.New(e.authority, e.clientID, *e.credential, options...)
}

// public is confidential for a client without credentials.
func (e *engine) public(rec *recorder, accessor cache.ExportReplace, cae bool) (public.Client, error) {
	return public.New(e.clientID,
		public.WithAuthority(e.authority),
		public.WithHTTPClient(rec),
		public.WithCache(accessor),
		public.WithInstanceDiscovery(!e.options.DisableInstanceDiscovery),
		public.WithClientCapabilities(e.options.capabilities(cae)))
}
