package batcher

import (
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"
)

// joinOutcomes makes one error of the outcomes of one request's parts that were not
// delivered. If any of them is worth a repetition, the whole is: only such outcomes can
// be found in it then, so that nobody takes it for permanent. A partial error is left
// whole only if it alone tells what failed; the sender would repeat just that.
func joinOutcomes(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	refused := 0
	for _, err := range errs {
		if isPermanent(err) {
			refused++
		}
	}
	var found []error // that can be found in the result
	texts := make(map[string]bool)
	for _, err := range errs {
		if refused < len(errs) && isPermanent(err) || texts[err.Error()] {
			continue
		}
		if len(errs)-refused != 1 {
			err = withoutData(err)
		}
		texts[err.Error()] = true
		found = append(found, err)
	}
	err := errors.Join(found...)
	if len(found) == 1 {
		err = found[0]
	}
	if refused == 0 || refused == len(errs) {
		return err
	}
	first := errs[slices.IndexFunc(errs, isPermanent)]
	return fmt.Errorf("%w (besides, %d parts of the request were refused for good: %s)", err, refused, first.Error())
}

// withoutData hides from errors.As the data that a partial error (consumererror.Traces
// and its kin) carries: it belongs to several callers, and one that sent it again would
// send what is not its own. Everything else about the error can still be found.
func withoutData(err error) error {
	if !isPartial(err) {
		return err
	}
	return dataless{err}
}

func isPartial(err error) bool {
	return errors.As(err, new(consumererror.Traces)) || errors.As(err, new(consumererror.Logs)) ||
		errors.As(err, new(consumererror.Metrics)) || errors.As(err, new(xconsumererror.Profiles))
}

type dataless struct{ err error }

func (d dataless) Error() string { return d.err.Error() }

func (d dataless) Is(target error) bool { return errors.Is(d.err, target) }

func (d dataless) As(target any) bool {
	switch target.(type) {
	case *consumererror.Traces, *consumererror.Logs, *consumererror.Metrics, *xconsumererror.Profiles:
		return false
	}
	return errors.As(d.err, target)
}
