package lab

// Mark and Rollback let a test take its edits back.
func (img *Image) Mark() int               { return img.mark() }
func (img *Image) Rollback(mark int) error { return img.rollback(mark) }
