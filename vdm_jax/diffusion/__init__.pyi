from . import bound, guidance, loss, noise, process, sampler, schedule
