//! Several acceptable ways to be given GPUs: which of them say the same.

use crate::GpuRequest;

impl GpuRequest {
    /// Whether both ask for the same, in whatever words.
    pub fn is_same(&self, other: &Self) -> bool {
        let model = |request: &Self| request.model.as_ref().map(|model| model.to_ascii_lowercase());
        let rest = |request: &Self| Self { model: None, ..request.anyhow_linked() };
        model(self) == model(other) && self.near() == other.near() && rest(self) == rest(other)
    }

    /// The first request of a list that asks for the same as an earlier one, and that one.
    pub fn repeated(requests: &[Self]) -> Option<(usize, usize)> {
        requests.iter().enumerate().find_map(|(at, request)| {
            let earlier = requests[..at].iter().position(|earlier| earlier.is_same(request));
            earlier.map(|earlier| (at, earlier))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GpuLink;

    #[test]
    fn what_is_said_in_other_words_is_the_same_and_what_differs_in_anything_is_not() {
        let request = GpuRequest {
            count: 2,
            model: Some("H100".to_owned()),
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 1_000,
            memory_bytes: 0,
            link: Some(GpuLink::Nvlink),
        };
        let older = GpuRequest { link: None, same_link_group: true, model: Some("h100".to_owned()), ..request.clone() };
        assert!(request.is_same(&older) && older.is_same(&request));
        let others = [
            GpuRequest { count: 3, ..request.clone() },
            GpuRequest { model: None, ..request.clone() },
            GpuRequest { min_memory_bytes: 1, ..request.clone() },
            GpuRequest { share_milli: 500, ..request.clone() },
            GpuRequest { share_milli: 500, memory_bytes: 1, ..request.clone() },
            GpuRequest { link: Some(GpuLink::Pcie), ..request.clone() },
            GpuRequest { link: None, ..request.clone() },
        ];
        let mut all = vec![request];
        all.extend(others);
        assert_eq!(GpuRequest::repeated(&all), None);
        all.push(GpuRequest { count: 3, ..older });
        assert_eq!(GpuRequest::repeated(&all), Some((8, 1)));
    }
}
