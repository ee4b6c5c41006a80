package azcredential_test

import (
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/coatcheck-go/coatcheck/clients/azcredential"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A handler that works with Azure as the user who is signed in. What is written here for
// arm.NewClient is the same for the clients of any package of the SDK.
func ExampleNew() {
	_ = func(client *xoauth2.Client, web *xoauth2.Web, work func(*http.Request, *arm.Client) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			credential := azcredential.New(r.Context(), client)
			azure, err := arm.NewClient("app", "v1.0.0", credential, nil) // for this request alone
			if err == nil {
				err = work(r, azure)
			}
			switch {
			case err == nil:
			case errors.Is(err, tokencache.ErrNoTokens):
				http.Redirect(w, r, "/signin", http.StatusSeeOther)
			case web.StepUp(w, r, err): // the user has to do something first, and comes back here
			default:
				http.Error(w, "Please try again later.", http.StatusServiceUnavailable)
			}
		}
	}
}
